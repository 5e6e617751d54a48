# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of one frame: camera images, prediction, and ground truth where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.frame import Frame
from occle_core.occupancy import Occupancy
from occle_core.pictures import legend, overlay, panel, perspective, top_view
from occle_core.pictures.overlay import viewing_order

IMAGES_IN_A_ROW = 3


def write_snapshots(
    folder: Path, name: str, frame: Frame, camera_names: Sequence[str], occupancy: Occupancy, truth: NDArray[np.uint8] | None = None
) -> list[Path]:
    """Write NAME.png (all views on one page) and NAME_CAMERA.png (each image with the voxels projected into it).

    Args:
        folder: output folder; created if missing.
        name: stem of the file names.
        frame: input of the prediction.
        camera_names: of the frame's images.
        occupancy: the prediction.
        truth: (X, Y, Z) labels on the same grid, 255 unknown, shown beside the prediction.

    Returns:
        The files, the page first.
    """
    rig = sorted(zip(camera_names, frame.images, frame.cameras), key=lambda entry: viewing_order(entry[2], frame.T_grid_lidar))
    overlays = {
        camera_name: overlay(image, camera, occupancy.labels, occupancy.grid, occupancy.taxonomy, frame.T_grid_lidar)
        for camera_name, image, camera in rig
        if image is not None
    }
    files = [_write(folder / f"{name}.png", page(overlays, occupancy, truth))]
    return files + [_write(folder / f"{name}_{camera}.png", image) for camera, image in overlays.items()]


def evenly_spaced(count: int, pictures: int) -> set[int]:
    """Indices of `pictures` evenly spaced frames of `count`, each in the middle of its part."""
    pictures = min(pictures, count)
    return {(2 * i + 1) * count // (2 * pictures) for i in range(pictures)}


def page(overlays: dict[str, NDArray[np.uint8]], occupancy: Occupancy, truth: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Page of one frame: images, then prediction (and ground truth) in perspective and from above, and a legend."""
    grid, taxonomy = occupancy.grid, occupancy.taxonomy
    images = list(overlays.items())
    rows = [images[at : at + IMAGES_IN_A_ROW] for at in range(0, len(images), IMAGES_IN_A_ROW)]
    shown = [("prediction", occupancy.labels)] + ([("truth", truth)] if truth is not None else [])
    oblique = [(title, perspective(labels, grid, taxonomy)) for title, labels in shown]
    above = [(f"{title}, from above", top_view(labels, grid, taxonomy)) for title, labels in shown]
    rows += [oblique + above] if truth is None else [oblique, above]
    return panel(rows, footer=legend([labels for _, labels in shown], taxonomy, 1600))


def _write(path: Path, image: NDArray[np.uint8]) -> Path:
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path} cannot be written as PNG")
    return path
