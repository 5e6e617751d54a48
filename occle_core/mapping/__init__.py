# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling semantic map around a robot, its layers and its files. No ROS."""

from occle_core.mapping.config import MapConfig
from occle_core.mapping.rolling_map import MapUpdate, RollingMap
from occle_core.mapping.snapshot import MapSnapshot

__all__ = ["MapConfig", "MapSnapshot", "MapUpdate", "RollingMap"]
