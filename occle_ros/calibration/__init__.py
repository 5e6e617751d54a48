# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The sensor rig: calibration files, CameraInfo and TF."""
