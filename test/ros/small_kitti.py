# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A SemanticKITTI sequence of a few frames, for the tests that replay data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from node_rig import sensors

CALIB = "P2: 80 0 80 0 0 80 30 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.2\n"


def write_sequence(root: Path, frames: int, name: str = "08", poses: bool = False) -> Path:
    """ROOT/sequences/NAME with scans and images at 10 Hz, with `poses` of a car that turns as it drives; returns ROOT."""
    folder = root / "sequences" / name
    for part in ("velodyne", "image_2"):
        (folder / part).mkdir(parents=True)
    for number in range(frames):
        points, image = sensors(number)
        points.astype("<f4").tofile(folder / "velodyne" / f"{number:06d}.bin")
        cv2.imwrite(str(folder / "image_2" / f"{number:06d}.png"), image[..., ::-1])
    if poses:
        rows = []
        for number in range(frames):
            angle = 0.05 * number
            # Camera axes: y is down, z ahead.
            turn = f"{np.cos(angle)} 0 {np.sin(angle)} {0.1 * number} 0 1 0 0 {-np.sin(angle)} 0 {np.cos(angle)} {0.8 * number}\n"
            rows.append(turn)
        (folder / "poses.txt").write_text("".join(rows))
    (folder / "calib.txt").write_text(CALIB)
    (folder / "times.txt").write_text("".join(f"{0.1 * number:e}\n" for number in range(frames)))
    return root
