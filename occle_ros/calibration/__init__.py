"""The sensor rig: calibration files, CameraInfo and TF."""
