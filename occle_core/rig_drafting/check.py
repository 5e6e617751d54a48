# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Check of a rig file against a recording: what does not fit, scans drawn into the images, scored extrinsics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from occle_core.datasets.recordings.bag import BagDataset
from occle_core.geometry.affine import transform_points
from occle_core.output_folder import new_folder
from occle_core.rig_drafting.extrinsics import ExtrinsicScore, draw_scan, score_camera
from occle_core.rig_drafting.ground import LEVEL, find_ground

FRAMES, PICTURES = 12, 3
TILTED, OFF_GROUND = 5.0, 0.3
"""Degrees and metres that the ground may be off what the rig says."""


def check_rig_on_bag(
    rig: Path, bag: Path, out: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[str], list[ExtrinsicScore]]:
    """Check a rig file.

    Args:
        rig: rig file.
        bag: recording.
        out: folder to create, with CAMERA_NNNNNN.jpg: the image with the points on it.
        on_progress: called with (frames read, frames in all).

    Returns:
        Notes on what does not fit, a line each; and a score for each camera.

    Raises:
        DatasetError: the rig and the bag do not fit. OutputError: `out` exists.
    """
    dataset = BagDataset(bag, bag.name, rig)
    notes = list(dataset.notes)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, FRAMES).round().astype(int)).tolist()
    frames = []
    for done, i in enumerate(chosen, 1):
        frames.append(dataset.frame(i))
        on_progress(done, len(chosen))
    points = np.concatenate([frame.points[:, :3] for frame in frames]).astype(np.float64)
    base = transform_points(dataset.T_grid_lidar, points)
    height = float(dataset.T_grid_lidar[2, 3])
    ground = find_ground(base - [0, 0, height])
    if ground is not None:
        tilt, z = ground.tilt(np.array([0, 0, 1.0])), height - ground.height
        if tilt > TILTED:
            other = ", unless that is a wall or a ceiling and no ground was seen" if tilt > LEVEL else ""
            lead = next(iter(dataset.rig.lidars))
            notes.append(f"the ground is {tilt:.1f} degrees off level: correct roll and pitch in lidars.{lead}{other}")
        if tilt <= LEVEL and abs(z - dataset.rig.ground_z) > OFF_GROUND:
            notes.append(
                f"the ground is at z = {z:.2f} m, not at {dataset.rig.ground_z:.2f} m: correct ground_z, or the LiDAR's height"
            )
    with new_folder(out) as folder:
        for number, name in enumerate(dataset.camera_names):
            for i, frame in list(zip(chosen, frames))[:: max(1, len(frames) // PICTURES)]:
                image = frame.images[number]
                if image is not None:
                    drawn = draw_scan(image, frame.points, frame.cameras[number])
                    (folder / f"{name}_{i:06d}.jpg").write_bytes(cv2.imencode(".jpg", drawn[..., ::-1])[1].tobytes())
        scores = [score_camera(name, number, frames) for number, name in enumerate(dataset.camera_names)]
        lines = [*notes, *(score.text for score in scores)]
        (folder / "check.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return notes, scores
