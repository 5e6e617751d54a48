# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Files of an occle sequence, the same bytes for the same content; docs/reference/sequence_layout.md documents them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import write_json
from occle_core.datasets.recordings.sequence import FORMAT, HEAD, VERSION
from occle_core.rig import Rig, write_rig
from occle_core.rig.files import RIG_FILE
from occle_core.taxonomy import TaxonomyConfig

FINEST = 0.001
"""Metres; the coordinates' step where all points are within 32 m."""


def write_head(folder: Path, rig: Rig, classes: str | TaxonomyConfig, source: Mapping[str, Any]) -> None:
    """Write sequence.json and rig.yaml.

    Args:
        folder: of the sequence.
        rig: with the poses and lenses of all cameras and the pose of the leading LiDAR.
        classes: class list of the labels.
        source: what the frames were made of.
    """
    listed = classes if isinstance(classes, str) else classes.model_dump(mode="json", exclude_defaults=True)
    write_rig(rig, folder / RIG_FILE)
    write_json(folder / HEAD, {"format": FORMAT, "version": VERSION, "classes": listed, "source": dict(source)})


def write_points(file: Path, points: NDArray[np.float32], sensor: NDArray[np.uint8], time: NDArray[np.floating]) -> None:
    """Write points (N, 4) in the leading LiDAR's frame: 16-bit coordinates, 8-bit intensities.

    Args:
        file: .npz.
        points: x, y, z in metres and intensity in 0..1.
        sensor: (N,) number of each point's LiDAR.
        time: (N,) seconds after the frame's stamp.
    """
    farthest = float(np.abs(points[:, :3]).max()) if len(points) else 0.0
    scale = np.float32(max(FINEST, farthest / 32_767))
    xyz = np.clip(np.rint(points[:, :3] / scale), -32_767, 32_767).astype(np.int16)
    intensity = np.clip(np.rint(points[:, 3] * 255), 0, 255).astype(np.uint8)
    _save(file, xyz=xyz, scale=scale, intensity=intensity, sensor=sensor.astype(np.uint8), time=time.astype(np.float16))


def write_labels(file: Path, classes: NDArray[np.uint8], moving: NDArray[np.bool_]) -> None:
    """Write the class ids (N,), 255 unlabelled, and motion (N,) of a frame's points."""
    _save(file, classes=classes, moving=moving)


def write_voxels(file: Path, classes: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write the class ids (X, Y, Z) of the rig's grid, 255 unknown, and masks of cells that sensors see, compressed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, classes=classes, **masks)  # type: ignore[arg-type]


def write_frames(shard: Path, frames: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write frames.json, which makes a shard complete."""
    write_json(shard / "frames.json", {"frames": list(frames), "failed": list(failed)})


def _save(file: Path, **arrays: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
