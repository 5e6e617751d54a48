"""Differentiable sphere rendering (MinkOcc, Sec. IV-C)."""
