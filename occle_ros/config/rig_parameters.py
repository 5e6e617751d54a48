# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sensor parameters of the node from a rig file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from occle_core.geometry.grid import VoxelGrid
from occle_core.rig import Rig, RigError, read_rig
from occle_core.rig.files import read_taxonomy
from occle_core.taxonomy import Taxonomy
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.share_paths import resolve


def load_rig(path: str) -> tuple[Rig, Path]:
    """The rig of parameter `rig`, and its file.

    Raises:
        ConfigError: no such file, or it is no rig.
    """
    file = resolve(path, "parameter rig")
    try:
        return read_rig(file), file
    except RigError as error:
        raise ConfigError(f"parameter rig: {error}") from error


def rig_classes(config_rig: str) -> Taxonomy | None:
    """Class list of the rig that parameter `rig` names; None: the network's.

    Raises:
        ConfigError: as `load_rig`, or the class list cannot be read.
    """
    if not config_rig:
        return None
    try:
        return read_taxonomy(*load_rig(config_rig))
    except RigError as error:
        raise ConfigError(f"parameter rig: {error}") from error


def rig_grid_problem(config_rig: str, grid: VoxelGrid) -> str | None:
    """What to know where the grid of the rig that parameter `rig` names is not the network's; None where it is, or none is given.

    Raises:
        ConfigError: as `load_rig`.
    """
    given = load_rig(config_rig)[0].grid if config_rig else None
    if given is None or given.grid == grid:
        return None
    return (
        f"the rig file's grid, {_grid_text(given.grid)}, is not the network's: voxels are on the network's, {_grid_text(grid)}. "
        "`occle-train fit --rig` trains a network on the rig file's"
    )


def _grid_text(grid: VoxelGrid) -> str:
    return f"{' x '.join(map(str, grid.shape))} cells of {grid.resolution:g} m from {grid.origin}"


def rig_parameters(rig: Rig) -> dict[str, Any]:
    """Parameters that a rig gives, by dotted name: topics, frames, offsets, tolerances. Poses and lenses: `Calibration`."""
    lead = rig.lead
    values: dict[str, Any] = {
        "lidar.topic": lead.topic,
        "lidar.intensity_scale": lead.intensity_scale,
        "lidar.exclude_box": lead.exclude_box,
        "lidar.time_field": lead.time_field,
        "lidar.stamp": lead.stamp,
        "lidar.odometry_topic": rig.odometry.topic,
        "lidar_names": tuple(rig.lidars)[1:],
        "camera_names": tuple(rig.cameras),
        "sync.tolerance_ms": rig.tolerances.camera_ms,
        "sync.lidar_tolerance_ms": rig.tolerances.lidar_ms,
        "sync.deadline_ms": rig.tolerances.deadline_ms,
        "tf.lidar_frame": lead.frame,
        "tf.grid_frame": rig.base_frame,
        "tf.world_frame": rig.odometry.frame,
    }
    for name, lidar in list(rig.lidars.items())[1:]:
        for field in ("topic", "intensity_scale", "time_field", "stamp", "time_offset_ms", "exclude_box"):
            values[f"lidars.{name}.{field}"] = getattr(lidar, field)
        if lead.T_base_lidar is not None and lidar.T_base_lidar is not None:
            values[f"lidars.{name}.T_lidar"] = tuple(np.linalg.solve(lead.T_base_lidar, lidar.T_base_lidar).ravel().tolist())
    for name, camera in rig.cameras.items():
        for field in ("topic", "info_topic", "compressed", "time_offset_ms"):
            values[f"cameras.{name}.{field}"] = getattr(camera, field)
    return values


def with_rig(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with those of the rig that parameter `rig` names; what is given beside it takes precedence.

    Raises:
        ConfigError: as `load_rig`.
    """
    path = flat.get("rig")
    if not path or not isinstance(path, str):
        return dict(flat)
    given = rig_parameters(load_rig(path)[0])
    for group in ("camera", "lidar"):
        names = flat.get(f"{group}_names", given[f"{group}_names"])
        if isinstance(names, (list, tuple)):
            left_out = tuple(f"{group}s.{name}." for name in given[f"{group}_names"] if name not in names)
            given = {name: value for name, value in given.items() if not name.startswith(left_out)}
    if flat.get("calibration_file"):
        del given["tf.grid_frame"]  # the file names its own
    return {**given, **flat}
