"""MinkOcc's label-efficiency experiment (Tables I and II)."""
