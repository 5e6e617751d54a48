# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The map as a point cloud file, for CloudCompare, Open3D, MeshLab."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from occle_core.atomic_file import atomic_write
from occle_core.mapping.snapshot import MapSnapshot

NO_CLASS = (128, 128, 128)
_FIELDS = [("rgb", "u1", 3), ("label", "u1"), ("probability", "<f4")]


def export_ply(path: Path | str, snapshot: MapSnapshot) -> int:
    """Write the centres of occupied cells as binary PLY: x, y, z (metres, the map's frame), red, green, blue, label, probability.

    Coordinates are float, or double where float would not tell the cells apart (see `MapSnapshot.voxels`).

    Returns:
        number of points.

    Raises:
        OSError: it cannot be written.
    """
    centers, labels, probability = snapshot.voxels()
    colors = np.full((256, 3), NO_CLASS, np.uint8)
    colors[: snapshot.taxonomy.num_classes] = snapshot.taxonomy.colors
    exact = centers.dtype == np.float64
    rows = np.empty(len(centers), np.dtype([("xyz", "<f8" if exact else "<f4", 3), *_FIELDS]))
    rows["xyz"], rows["rgb"], rows["label"], rows["probability"] = centers, colors[labels], labels, probability
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment occle map in frame {' '.join(snapshot.frame_id.split())}",
        f"element vertex {len(rows)}",
        *(f"property {'double' if exact else 'float'} {axis}" for axis in "xyz"),
        *(f"property uchar {color}" for color in ("red", "green", "blue")),
        "property uchar label",
        "property float probability",
        "end_header\n",
    ]
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes("\n".join(header).encode() + rows.tobytes())
    return len(rows)
