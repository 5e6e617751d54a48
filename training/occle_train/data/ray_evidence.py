# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Moving points by ray evidence: rays of earlier or later scans pass through the place of a point that moves. No label is read.

The idea is that of visibility-based map cleaning (Kim and Kim, Remove, then Revert, IROS 2020): another scan is drawn as a range
image from its own sensor, and a point that lies clearly nearer than everything the image shows around it was not there.
"""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from occle_core.config import Config
from occle_core.datasets import Dataset
from occle_core.datasets.base import ray_origins

SHARE_IN_BLOCK = 0.3
"""Share of the points of a block, and of the 26 around it, whose rays were passed through, from which all of the block moves."""
LEAST_IN_BLOCK = 3
"""Fewer of them are chance."""


class RayEvidenceConfig(Config):
    """Settings of the ray evidence; the defaults were chosen on the frames of `python -m benchmark.training.ray_evidence`."""

    window: int = Field(10, ge=1, description="scans before and after a scan whose rays are asked")
    pixel: float = Field(0.5, gt=0, le=10, description="size of a range image's pixel, degrees; about the beams' spacing")
    clearance: float = Field(0.3, gt=0, description="how much longer than to a point rays must be to pass through it, metres")
    clearance_per_metre: float = Field(0.01, ge=0, description="the same, in addition, per metre of the point's distance")
    least_scans: int = Field(2, ge=1, description="scans whose rays must pass through a point")
    least_share: float = Field(
        0.3, gt=0, le=1, description="share of them among the scans that pass through it or find a surface there"
    )
    block: float = Field(0.3, gt=0, description="edge of the blocks in which a scan's points support each other, metres")


class RayEvidence:
    """Moving points of a sequence; range images of the last scans are kept.

    Args:
        dataset: a sequence with poses.
        config: see RayEvidenceConfig.
    """

    def __init__(self, dataset: Dataset, config: RayEvidenceConfig | None = None) -> None:
        self.dataset, self.config = dataset, config or RayEvidenceConfig()
        self._images: OrderedDict[int, list[tuple[NDArray[np.float64], NDArray[np.float32]]]] = OrderedDict()

    def moving(self, i: int) -> NDArray[np.bool_]:
        """(N,) which points of scan `i` are on something that was not there before or after; none without a pose."""
        return self._moving(self.dataset.points(i), *self.counts(i))

    def moving_among(self, points: NDArray[np.floating], pose: NDArray[np.float64] | None, near: int) -> NDArray[np.bool_]:
        """(N,) the same of the points (N, 3 or more) of a scan between frames, with its pose, by the scans around frame `near`."""
        return self._moving(points, *self._counts(points, pose, near, range(0)))

    def counts(self, i: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Per point (N,) of scan `i`: scans whose rays pass through its place, and scans that find a surface there."""
        return self._counts(self.dataset.points(i), self.dataset.pose(i), i, range(i, i + 1))

    def _moving(self, points: NDArray[np.floating], passed: NDArray[np.int64], met: NDArray[np.int64]) -> NDArray[np.bool_]:
        config = self.config
        doubted = (passed >= config.least_scans) & (passed >= config.least_share * (passed + met))
        return supported(points, doubted, config.block)

    def _counts(
        self, points: NDArray[np.floating], pose: NDArray[np.float64] | None, i: int, without: range
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        points = points[:, :3].astype(np.float64)
        passed, met = np.zeros(len(points), np.int64), np.zeros(len(points), np.int64)
        if pose is None:
            return passed, met
        for other in range(max(0, i - self.config.window), min(len(self.dataset), i + self.config.window + 1)):
            there = self.dataset.pose(other)
            if other in without or there is None:
                continue
            T_other_scan = np.linalg.inv(there) @ pose
            through, surface = self._compare(other, points @ T_other_scan[:3, :3].T + T_other_scan[:3, 3])
            passed += through
            met += surface
        return passed, met

    def _compare(self, other: int, points: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of points (N, 3) in another scan's sensor frame: which its rays pass through, and where they find a surface."""
        passed, met = np.zeros(len(points), np.bool_), np.zeros(len(points), np.bool_)
        for position, image in self._range_images(other):
            through, surface = self._compare_image(image, points - position)
            passed |= through
            met |= surface
        return passed, met

    def _compare_image(
        self, image: NDArray[np.float32], points: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        distance, row, column = directions(points, self.config.pixel)
        clear = (self.config.clearance + self.config.clearance_per_metre * distance).astype(np.float32)
        # Around a pixel, because a ray beside an edge says nothing of it: padded, as the picture closes behind the sensor.
        padded = np.pad(np.pad(image, ((0, 0), (1, 1)), mode="wrap"), ((1, 1), (0, 0)), constant_values=np.inf)
        nearest = cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1][row, column]
        passed = np.isfinite(nearest) & (nearest > distance + clear)
        met = np.zeros(len(points), np.bool_)
        for down in range(3):
            for right in range(3):
                met |= np.abs(padded[row + down, column + right] - distance) < clear
        return passed, met

    def _range_images(self, i: int) -> list[tuple[NDArray[np.float64], NDArray[np.float32]]]:
        """Of every LiDAR of scan `i`: its position (3,), and the range image from there."""
        if i not in self._images:
            rays = ray_origins(self.dataset, i).rays(self.dataset.points(i)[:, :3])
            self._images[i] = [(at, range_image(points - at, self.config.pixel)) for at, points in rays]
            while len(self._images) > 2 * self.config.window + 2:
                self._images.popitem(last=False)
        self._images.move_to_end(i)
        return self._images[i]


def range_image(points: NDArray[np.floating], pixel: float) -> NDArray[np.float32]:
    """(180 / pixel, 360 / pixel) distances of the nearest point in every direction, metres; infinite where there is none.

    Args:
        points: (N, 3 or more) in the sensor's frame, metres.
        pixel: degrees.
    """
    distance, row, column = directions(points, pixel)
    image = np.full((round(180 / pixel), round(360 / pixel)), np.inf, np.float32)
    np.minimum.at(image, (row, column), distance.astype(np.float32))
    return image


def directions(points: NDArray[np.floating], pixel: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distances (N,) of points (N, 3 or more), metres, and rows (elevation) and columns (azimuth) (N,) of their pixels."""
    x, y, z = points[:, :3].astype(np.float64).T
    flat = np.hypot(x, y)
    rows, columns = round(180 / pixel), round(360 / pixel)
    row = np.floor((np.arctan2(z, flat) / np.pi + 0.5) * rows).astype(np.int64).clip(0, rows - 1)
    column = np.floor((np.arctan2(y, x) / np.pi + 1) * columns / 2).astype(np.int64) % columns
    return np.hypot(flat, z), row, column


def supported(points: NDArray[np.floating], doubted: NDArray[np.bool_], block: float) -> NDArray[np.bool_]:
    """Points (N,) of the blocks in and around which enough of the points are doubted: objects move, single points do not.

    Args:
        points: (N, 3 or more), metres.
        doubted: (N,).
        block: edge length, metres.
    """
    result = np.zeros(len(points), np.bool_)
    if not doubted.any():
        return result
    ijk = np.floor(points[:, :3] / block).astype(np.int64)
    ijk -= ijk.min(axis=0) - 1
    shape = tuple((ijk.max(axis=0) + 2).tolist())
    cells, cell = np.unique(np.ravel_multi_index(tuple(ijk.T), shape), return_inverse=True)
    own, bad = np.bincount(cell), np.bincount(cell, doubted)
    count, found = np.zeros(len(cells)), np.zeros(len(cells))
    for offset in np.ndindex(3, 3, 3):
        wanted = cells + np.ravel_multi_index(offset, shape) - np.ravel_multi_index((1, 1, 1), shape)
        place = np.minimum(np.searchsorted(cells, wanted), len(cells) - 1)
        there = cells[place] == wanted
        count += np.where(there, own[place], 0)
        found += np.where(there, bad[place], 0)
    return np.asarray(((found >= LEAST_IN_BLOCK) & (found >= SHARE_IN_BLOCK * count))[cell])
