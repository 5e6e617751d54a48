"""MinkOcc's training recipe."""
