# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The sensor rig, described once in rig.yaml: LiDARs, cameras, frames, grid, classes, tolerances."""

from occle_core.rig.description import CameraRig, LidarRig, Rig
from occle_core.rig.files import RigError, read_rig, write_rig

__all__ = ["CameraRig", "LidarRig", "Rig", "RigError", "read_rig", "write_rig"]
