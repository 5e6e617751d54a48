# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Points into voxels and images, and smaller images, on compiled kernels: bit by bit what NumPy and OpenCV make."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.native.library import Library, address, loaded
from occle_core.native.workspace import Workspace

Int64 = NDArray[np.int64]
_OWN = threading.local()


def workspace() -> Workspace | None:
    """This thread's, where the process has loaded the library; None: NumPy does the work."""
    library = loaded()
    if library is None:
        return None
    if getattr(_OWN, "space", None) is None or _OWN.space.library is not library:
        _OWN.space = Workspace(library)
    space: Workspace = _OWN.space
    return space


def number_cells(library: Library, points: NDArray[np.float32], grid: VoxelGrid) -> NDArray[np.int32]:
    """(N,) numbers in C order of the grid's cells that hold points (N, 3 or more), -1 outside; as `VoxelGrid.index`."""
    numbers, origin = np.empty(len(points), np.int32), np.asarray(grid.origin, np.float32)
    found = address(numbers, np.int32, len(points))
    library.call("cells_of_points", *_strided(points), address(origin, np.float32, 3), grid.resolution, *grid.shape, found, None)
    return numbers


def transform_points(space: Workspace, T: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `occle_core.geometry.affine.transform_points`, for float32."""
    start, count, row, _ = _strided(points := _as_rows(points))
    matrix, out = np.ascontiguousarray(T[:3], np.float32), np.empty((count, 3), np.float32)
    space.library.call("transform_points", start, count, row, address(matrix, np.float32, 3, 4), address(out, np.float32, count, 3))
    return out


def voxelise(space: Workspace, points: NDArray[np.float32], grid: VoxelGrid, max_points: int) -> tuple[Int64, Int64, Int64, Int64]:
    """As `occle_core.networks.blocks.voxelise.voxelise`."""
    library, n = space.library, len(points)
    origin = np.asarray(grid.origin, np.float32)
    _, ny, nz = grid.shape
    with space.frame():
        at, cell, count, order = (space.empty(np.int32, n) for _ in range(4))
        table = address(space.table(grid.size), np.int32, grid.size)
        library.call(
            "cells_of_points",
            *_strided(points),
            address(origin, np.float32, 3),
            grid.resolution,
            *grid.shape,
            address(at, np.int32, n),
            table,
        )
        voxels = library.call(
            "sort_points",
            address(at, np.int32, n),
            n,
            table,
            grid.size,
            address(order, np.int32, n),
            address(cell, np.int32, n),
            address(count, np.int32, n),
        )
        kept = int(np.minimum(count[:voxels], max_points).sum())
        rows, voxel = np.empty(kept, np.int64), np.empty(kept, np.int64)
        places, cells = np.empty((voxels, max_points), np.int64), np.empty((voxels, 3), np.int64)
        library.call(
            "keep_points",
            address(order, np.int32, n),
            address(cell, np.int32, n),
            address(count, np.int32, n),
            voxels,
            max_points,
            kept,
            ny,
            nz,
            address(rows, np.int64, kept),
            address(voxel, np.int64, kept),
            address(places, np.int64, voxels, max_points),
            address(cells, np.int64, voxels, 3),
        )
    return rows, voxel, places, cells


def point_features(
    space: Workspace, points: NDArray[np.float32], intensity: NDArray[np.float32], voxel: Int64, cells: Int64, grid: VoxelGrid
) -> NDArray[np.float32]:
    """As `occle_core.networks.blocks.voxelise.point_features`."""
    count = len(points)
    if intensity.shape != (count,) or intensity.dtype != np.float32 or (count and not 0 <= voxel.min() <= voxel.max() < len(cells)):
        raise ValueError(
            f"intensity {intensity.dtype} {intensity.shape} and voxels do not fit {count} points of {len(cells)} voxels"
        )
    intensity = np.ascontiguousarray(intensity)
    origin, lower, upper = np.array(grid.origin), np.asarray(grid.origin, np.float32), np.asarray(grid.upper, np.float32)
    out = np.empty((count, 10), np.float32)
    with space.frame():
        sums = space.empty(np.float64, len(cells), 4)
        start, _, row, axis = _strided(points)
        space.library.call(
            "features_of_points",
            start,
            row,
            axis,
            address(intensity, np.float32, count),
            address(voxel, np.int64, count),
            count,
            address(cells, np.int64, None, 3),
            len(cells),
            address(origin, np.float64, 3),
            grid.resolution,
            address(lower, np.float32, 3),
            address(upper, np.float32, 3),
            address(sums, np.float64, None, 4),
            address(out, np.float32, count, 10),
        )
    return out


def see(
    space: Workspace,
    points: NDArray[np.float32],
    camera: Camera,
    number: int,
    view: Int64,
    uv: NDArray[np.float32],
    margin: NDArray[np.float32],
) -> None:
    """One camera's part of `occle_core.networks.minkocc.inputs.choose_views`.

    Args:
        points: (P, 3 or more) in the LiDAR frame.
        camera: the camera.
        number: its number.
        view: (P, M), uv (P, M, 2), margin (P, M): the views so far, written in place.
    """
    T = np.ascontiguousarray(camera.K @ camera.T_camera_lidar[:3])
    count, views = view.shape
    start, rows, row, _ = _strided(points := _as_rows(points))
    if rows != count:
        raise ValueError(f"{rows} points for views of {count}")
    space.library.call(
        "view_of_points",
        start,
        row,
        count,
        address(T, np.float64, 3, 4),
        camera.width,
        camera.height,
        number,
        views,
        address(view, np.int64, count, views),
        address(uv, np.float32, count, views, 2),
        address(margin, np.float32, count, views),
    )


def move(
    space: Workspace,
    points: NDArray[np.float32],
    times: NDArray[np.float32],
    first: float,
    inverse: float,
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Points (N, 4) into `out` (N, 4), each by the nearest in time of the table's (K, 12) transforms; see `sensors.deskew`."""
    start, count, row, _ = _strided(points := _as_rows(points))
    space.library.call(
        "move_points",
        start,
        count,
        row,
        address(np.ascontiguousarray(times), np.float32, count),
        first,
        inverse,
        address(table, np.float32, None, 12),
        len(table),
        address(out, np.float32, count, 4),
    )


def can_resize(image: NDArray[np.uint8], width: int, height: int) -> bool:
    """Whether `resize` makes this image of this size: smaller, and not by whole numbers, where OpenCV is fast."""
    h, w = image.shape[:2]
    smaller = w >= width and h >= height and (w % width or h % height)
    return bool(smaller) and image.strides[1:] == (3, 1) and image.strides[0] >= 3 * w


def resize(space: Workspace, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """(h, w, 3) uint8 into (H, W, 3), as `cv2.resize` with INTER_AREA; see `can_resize`."""
    (h, w), (height, width) = image.shape[:2], out.shape[:2]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not can_resize(image, width, height):
        raise ValueError(f"an image {image.dtype} {image.shape} cannot be resized to {width} x {height} by this kernel")
    with space.frame():
        numbers, work = (
            space.empty(np.int32, 2 * (height + width)),
            space.empty(np.float32, h + 2 * height + 8 * w + 18 * width + 16),
        )
        space.library.call(
            "resize_area",
            int(image.ctypes.data),
            h,
            w,
            image.strides[0],
            height,
            width,
            address(out, np.uint8, height, width, 3),
            address(numbers, np.int32, None),
            address(work, np.float32, None),
        )


def _as_rows(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The points, copied where a row's x, y and z do not follow one another or lie between floats, as in packed records."""
    whole = points.flags.aligned and points.strides[0] % 4 == 0 and points.strides[1] == 4
    return points if whole else np.ascontiguousarray(points)


def _strided(points: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Where points (N, 3 or more) lie, how many there are, and the floats from row to row and from x to y."""
    if points.dtype != np.float32 or points.ndim != 2 or points.shape[1] < 3 or any(step % 4 for step in points.strides):
        raise ValueError(f"points must be float32 (N, 3 or more) on whole floats, not {points.dtype} {points.shape}")
    row, axis = points.strides
    return int(points.ctypes.data), len(points), row // 4, axis // 4
