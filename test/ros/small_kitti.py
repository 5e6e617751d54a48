"""A SemanticKITTI sequence of a few frames, for the tests that replay data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
from node_rig import sensors

CALIB = "P2: 80 0 80 0 0 80 30 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.2\n"


def write_sequence(root: Path, frames: int, name: str = "08") -> Path:
    """ROOT/sequences/NAME with scans and images at 10 Hz; returns ROOT."""
    folder = root / "sequences" / name
    for part in ("velodyne", "image_2"):
        (folder / part).mkdir(parents=True)
    for number in range(frames):
        points, image = sensors(number)
        points.astype("<f4").tofile(folder / "velodyne" / f"{number:06d}.bin")
        cv2.imwrite(str(folder / "image_2" / f"{number:06d}.png"), image[..., ::-1])
    (folder / "calib.txt").write_text(CALIB)
    (folder / "times.txt").write_text("".join(f"{0.1 * number:e}\n" for number in range(frames)))
    return root
