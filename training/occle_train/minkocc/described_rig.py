# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc for a rig file: its grid, its classes, and as many cameras as it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, spec_for
from occle_core.datasets import Dataset, DatasetError
from occle_core.networks.minkocc.config import ImageConfig
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.networks.protocol import Size
from occle_core.rig import Rig, RigError, read_rig
from occle_core.rig.files import class_list
from occle_core.taxonomy import TaxonomyConfig

STRIDE = 32
"""Image sizes are multiples of the coarsest stride, pixels."""


def own_classes(file: Path) -> TaxonomyConfig | None:
    """The class list of your own that a rig file names; None where it names a shipped one, or none.

    Raises:
        RigError: the rig file or its class list cannot be read.
    """
    listed = class_list(read_rig(file), file)
    return listed if isinstance(listed, TaxonomyConfig) else None


def spec_of_rig(size: Size, file: Path, classes: TaxonomyConfig | None = None) -> BundleSpec:
    """The spec of a network size for the sensors of a rig file.

    Args:
        size: of the network.
        file: rig file.
        classes: class list, instead of the rig file's.

    Raises:
        RigError: the rig file cannot be read, or has no grid or class list.
        BundleError: the network cannot halve the grid as often as it has to.
    """
    rig = read_rig(file)
    listed = classes or class_list(rig, file)
    if rig.grid is None:
        raise RigError(f"rig file {file} has no grid; add `grid: {{origin: ..., shape: ..., resolution: ...}}`")
    if listed is None:
        raise RigError(f"rig file {file} names no class list; add `classes: ...`, or give --classes FILE")
    network, _ = MinkOcc.preset(size, "kitti" if len(rig.cameras) < 2 else "nuscenes")
    image = _for_cameras(network.image, rig)
    # The robot's own points are left out by the rig's exclude_box, wherever the LiDAR is.
    points = network.points.model_copy(update={"min_range": 0.0})
    network = network.model_copy(update={"image": image, "points": points})
    return spec_for(network, rig.grid.grid, listed, f"minkocc-{size}-{rig.name}")


def check_sensors(datasets: Sequence[Dataset], rig: Rig, classes: str | TaxonomyConfig, data: Path | str) -> None:
    """Make sure that the data is of a rig: the same cameras in the same order, labelled by the same class list.

    Raises:
        DatasetError: it is not.
    """
    name = taxonomy.load(classes).name
    for dataset in datasets:
        if dataset.camera_names != tuple(rig.cameras):
            raise DatasetError(
                f"{data}: {dataset.name} has the cameras {', '.join(dataset.camera_names) or 'none'}, the rig file "
                f"{', '.join(rig.cameras) or 'none'}; give the rig file that the data was made with"
            )
        if dataset.taxonomy.name != name:
            raise DatasetError(
                f"{data}: {dataset.name} is labelled with {dataset.taxonomy.name}, the rig file says {name}; add "
                f"`names: {dataset.taxonomy.name}` to the class list (docs/how_to/own_classes.md)"
            )


def _for_cameras(preset: ImageConfig, rig: Rig) -> ImageConfig:
    """A preset's image branch for a rig's cameras: about as many pixels an image, in the cameras' mean shape."""
    shapes = [camera.width / camera.height for camera in rig.cameras.values() if camera.width and camera.height]
    count = max(1, len(rig.cameras))
    if not shapes:
        return preset.model_copy(update={"num_cameras": count})
    shape, pixels = float(np.exp(np.mean(np.log(shapes)))), preset.width * preset.height
    width, height = (max(1, round(length / STRIDE)) * STRIDE for length in (math.sqrt(pixels * shape), math.sqrt(pixels / shape)))
    return preset.model_copy(update={"num_cameras": count, "width": width, "height": height})
