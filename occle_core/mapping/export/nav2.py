# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A height band of the map as the pair of files that nav2's map_server loads: an image and its YAML."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.mapping.layers import DRIVABLE, OBSTACLE, HeightBand, project_bands
from occle_core.mapping.snapshot import MapSnapshot

BLACK, GRAY, WHITE = 0, 205, 254
"""What nav2's and ROS 1's map savers write for occupied, unknown and free."""
OCCUPIED_THRESHOLD, FREE_THRESHOLD = 0.65, 0.196


def export_nav2(path: Path | str, snapshot: MapSnapshot, band: HeightBand | None = None) -> NDArray[np.uint8]:
    """Write NAME.yaml and NAME.pgm beside it, trinary: obstacles black, drivable columns white, the rest gray.

    The image's first row is the map's farthest along y, as map_server expects; `origin` is the lowest corner of its lowest-left
    pixel in the map's frame.

    Args:
        path: of the YAML file; the image takes its name with .pgm.
        snapshot: the map.
        band: the heights that count; None takes HeightBand's own.

    Returns:
        the layer, (X, Y) uint8 as `project_bands` gives.

    Raises:
        ValueError: `path` is that of the image.
        OSError: they cannot be written.
    """
    path = Path(path)
    image = path.with_suffix(".pgm")
    if image == path:
        raise ValueError(f"{path} would be the image; give the name of the YAML file, {path.with_suffix('.yaml')}")
    (layer,) = project_bands(snapshot, [band or HeightBand()])
    gray = np.where(layer == OBSTACLE, np.uint8(BLACK), np.where(layer == DRIVABLE, np.uint8(WHITE), np.uint8(GRAY)))
    rows = np.ascontiguousarray(gray.T[::-1])
    with atomic_write(image) as temporary:
        temporary.write_bytes(f"P5\n{rows.shape[1]} {rows.shape[0]}\n255\n".encode() + rows.tobytes())
    text = yaml.safe_dump(
        {
            "image": os.fspath(image.name),
            "mode": "trinary",
            "resolution": snapshot.grid.resolution,
            "origin": [*snapshot.grid.origin[:2], 0.0],
            "negate": 0,
            "occupied_thresh": OCCUPIED_THRESHOLD,
            "free_thresh": FREE_THRESHOLD,
        },
        sort_keys=False,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")
    return layer
