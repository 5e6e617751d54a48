# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""PointCloud2 messages of points and of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.taxonomy import Taxonomy
from occle_ros.messages.common import bytes_of, header

VOXEL_DTYPE = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("label", "u1"), ("pad", "V3"), ("confidence", "<f4"), ("rgb", "<u4")]
)
"""Layout of one voxel; rgb is 0x00RRGGBB and declared as FLOAT32, as RViz expects it."""
UNKNOWN_GREY = 128


def cloud_from_points(points: NDArray[np.floating], stamp: int, frame_id: str) -> PointCloud2:
    """Unordered PointCloud2 of points (N, 4) x, y, z, intensity, with four packed float32 fields."""
    packed = np.ascontiguousarray(points, "<f4")
    if packed.ndim != 2 or packed.shape[1] != 4:
        raise ConversionError(f"points must be (N, 4): x, y, z, intensity; got {packed.shape}")
    fields = [_field(name, 4 * i, PointField.FLOAT32) for i, name in enumerate(("x", "y", "z", "intensity"))]
    return _cloud(header(stamp, frame_id), fields, 16, len(packed), packed)


def cloud_from_occupancy(occupancy: Occupancy, unknown: bool = False) -> PointCloud2:
    """PointCloud2 of the occupied voxels' centres: x, y, z float32, label uint8, confidence float32, rgb packed.

    Args:
        occupancy: to publish.
        unknown: also the unknown cells (label 255), after the occupied ones, in grey.
    """
    centres, labels, confidence = occupancy.voxels()
    if unknown:
        numbers = np.flatnonzero(occupancy.labels == occupancy.taxonomy.ignore)
        centres = np.concatenate([centres, occupancy.grid.centers_at(numbers)])
        labels = np.concatenate([labels, np.full(len(numbers), occupancy.taxonomy.ignore, np.uint8)])
        confidence = np.concatenate([confidence, np.zeros(len(numbers), np.float32)])
    return voxel_cloud(centres, labels, confidence, occupancy.taxonomy, header(occupancy.stamp, occupancy.frame_id))


def voxel_cloud(
    centres: NDArray[np.floating], labels: NDArray[np.uint8], confidence: NDArray[np.float32], taxonomy: Taxonomy, head: Header
) -> PointCloud2:
    """PointCloud2 of labelled voxels in the layout of `VOXEL_DTYPE`.

    Args:
        centres: (N, 3) metres.
        labels: (N,) class ids; 255 is drawn grey.
        confidence: (N,) in 0..1.
        taxonomy: gives the colours.
        head: of the message.
    """
    voxels = np.zeros(len(labels), VOXEL_DTYPE)
    voxels["x"], voxels["y"], voxels["z"] = centres.T
    voxels["label"], voxels["confidence"] = labels, confidence
    colours = np.full((256, 3), UNKNOWN_GREY, np.uint32)
    colours[: len(taxonomy.colors)] = taxonomy.colors
    voxels["rgb"] = (colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2])[labels]
    fields = [_field(name, offset, PointField.FLOAT32) for name, offset in (("x", 0), ("y", 4), ("z", 8))]
    fields += [
        _field("label", 12, PointField.UINT8),
        _field("confidence", 16, PointField.FLOAT32),
        _field("rgb", 20, PointField.FLOAT32),
    ]
    return _cloud(head, fields, VOXEL_DTYPE.itemsize, len(voxels), voxels)


def obstacles_from_occupancy(occupancy: Occupancy, min_height: float, max_height: float, ground: Sequence[int]) -> PointCloud2:
    """PointCloud2 of the obstacles' voxel centres: x, y, z float32, for the obstacle and voxel layers of nav2.

    Args:
        occupancy: to publish.
        min_height: lower end of the height band, metres, z of the grid frame; cells whose centres lie in it count.
        max_height: upper end of the band.
        ground: class ids that are no obstacles.
    """
    grid, taxonomy = occupancy.grid, occupancy.taxonomy
    is_obstacle = np.ones(256, np.bool_)
    is_obstacle[[taxonomy.free, taxonomy.ignore, *ground]] = False
    centres = grid.centers_at(occupancy.sparse.cells[is_obstacle[occupancy.sparse.classes]])
    kept = (centres[:, 2] >= min_height) & (centres[:, 2] < max_height)
    packed = np.ascontiguousarray(centres[kept], "<f4")
    fields = [_field(name, offset, PointField.FLOAT32) for name, offset in (("x", 0), ("y", 4), ("z", 8))]
    return _cloud(header(occupancy.stamp, occupancy.frame_id), fields, 12, len(packed), packed)


def occupancy_from_cloud(message: PointCloud2, grid: VoxelGrid, taxonomy: Taxonomy) -> Occupancy:
    """Inverse of `cloud_from_occupancy`, with the same grid and taxonomy.

    Raises:
        ConversionError: the cloud has another layout, or a voxel lies outside the grid or has a label the taxonomy lacks.
    """
    if message.point_step != VOXEL_DTYPE.itemsize or not {"label", "confidence"} <= {f.name for f in message.fields}:
        fields = ", ".join(f.name for f in message.fields) or "none"
        raise ConversionError(f"not a cloud of labelled voxels; its fields are {fields}")
    raw = np.frombuffer(message.data, np.uint8)
    if len(raw) != message.width * message.point_step:
        raise ConversionError(f"{message.width} voxels need {message.width * message.point_step} bytes, the cloud has {len(raw)}")
    voxels = raw.view(VOXEL_DTYPE)
    ijk, inside = grid.index(np.stack([voxels["x"], voxels["y"], voxels["z"]], axis=1))
    if not inside.all():
        raise ConversionError(
            f"{int((~inside).sum())} of {len(voxels)} voxels are outside the {grid.shape} grid: use the bundle of the cloud"
        )
    known = voxels["label"][voxels["label"] != taxonomy.ignore]
    if len(known) and known.max() >= len(taxonomy.names):
        raise ConversionError(f"label {int(known.max())} is not one of {taxonomy.name}'s {len(taxonomy.names)} classes")
    labels = np.full(grid.shape, taxonomy.free, np.uint8)
    confidence = np.zeros(grid.shape, np.float16)
    at = tuple(ijk.T)
    labels[at], confidence[at] = voxels["label"], voxels["confidence"]
    return Occupancy.of_volumes(labels, confidence, grid, taxonomy, stamp=stamp_of(message), frame_id=message.header.frame_id)


def distance_cloud(distance: NDArray[np.float32], ground: NDArray[np.float32], grid: VoxelGrid, head: Header) -> PointCloud2:
    """Organised PointCloud2 of a map's columns: x, y, z of the ground, and distance, all float32; width along x, height along y.

    Args:
        distance: (X, Y) metres from the nearest obstacle column, infinite without one.
        ground: (X, Y) metres, NaN where no ground is mapped.
        grid: of the map.
        head: of the message.
    """
    width, height = distance.shape
    x, y = (o + (np.arange(n) + 0.5) * grid.resolution for o, n in zip(grid.origin[:2], distance.shape))
    rows = np.empty((height, width, 4), "<f4")
    rows[..., 0], rows[..., 1], rows[..., 2], rows[..., 3] = x, y[:, None], ground.T, distance.T
    fields = [_field(name, 4 * i, PointField.FLOAT32) for i, name in enumerate(("x", "y", "z", "distance"))]
    message = _cloud(head, fields, 16, width * height, rows)
    message.height, message.width, message.row_step, message.is_dense = height, width, 16 * width, False
    return message


def _field(name: str, offset: int, datatype: int) -> PointField:
    return PointField(name=name, offset=offset, datatype=datatype, count=1)


def _cloud(head: Header, fields: list[PointField], point_step: int, count: int, rows: NDArray[Any]) -> PointCloud2:
    return PointCloud2(
        header=head, height=1, width=count, fields=fields, is_bigendian=False, point_step=point_step,
        row_step=point_step * count, data=bytes_of(rows), is_dense=True,
    )  # fmt: skip
