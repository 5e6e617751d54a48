# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A data set of two cameras and a LiDAR, and comparisons with the bag that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from occle_core import taxonomy
from occle_core.bags.bag_file import open_bag
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera

TYPES = get_typestore(Stores.ROS2_KILTED)
MILLISECOND = 1_000_000
START = 1_700_000_000_000_000_000


def rigid(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    T[:3, :3] = Q * np.sign(np.linalg.det(Q))
    T[:3, 3] = rng.normal(size=3)
    return T


class Rig:
    """A data set of two cameras with their own shutter times and a LiDAR that is not the grid frame."""

    kind, name, lidar_frame, grid_frame = "fake", "scene-1", "lidar_top", "base_link"
    camera_names = ("right", "left")

    def __init__(self, folder: Path, stamps: list[int], suffix: str, picture: Callable[..., np.ndarray]) -> None:
        self.taxonomy = taxonomy.load("occ3d_nuscenes")
        self.stamps, self.T_grid_lidar = stamps, rigid(0)
        self._folder, self._suffix = folder, suffix
        self.missing: set[tuple[int, str]] = set()
        for i in range(len(stamps)):
            for name in self.camera_names:
                path = str(folder / f"{name}{i}{suffix}")
                cv2.imwrite(path, picture(24, 40, seed=i))

    def __len__(self) -> int:
        return len(self.stamps)

    def frame(self, i: int) -> Frame:
        points = np.random.default_rng(i).normal(0, 10, (50 + i, 4)).astype(np.float32)
        images = [
            None if (i, name) in self.missing else cv2.cvtColor(cv2.imread(str(self.image_file(i, name))), cv2.COLOR_BGR2RGB)
            for name in self.camera_names
        ]
        K = np.array([[30.0, 0, 20], [0, 31, 12], [0, 0, 1]])
        cameras = [Camera(K + k, rigid(k + 1), 40, 24) for k in range(2)]
        return Frame(self.stamps[i], points, images, cameras, self.T_grid_lidar)

    def pose(self, i: int) -> np.ndarray | None:
        return rigid(10 + i)

    def image_file(self, i: int, camera: str) -> Path | None:
        return self._folder / f"{camera}{i}{self._suffix}"

    def files(self, i: int) -> list[Path]:
        return []

    def image_stamp(self, i: int, camera: str) -> int:
        return self.stamps[i] + {"left": -40, "right": -20}[camera] * MILLISECOND


def content(bag: Path) -> list[tuple[str, int, object]]:
    with open_bag(bag) as reader:
        return [(c.topic, time, TYPES.deserialize_cdr(data, c.msgtype)) for c, time, data in reader.messages(reader.connections)]


def assert_same(a: Frame, b: Frame, atol: float = 0) -> None:
    assert a.stamp == b.stamp and len(a.images) == len(b.images)
    np.testing.assert_array_equal(a.points, b.points)
    np.testing.assert_array_equal(a.T_grid_lidar, b.T_grid_lidar)
    for x, y in zip(a.images, b.images):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_array_equal(x, y)
    for x, y in zip(a.cameras, b.cameras):
        np.testing.assert_allclose(x.K, y.K, atol=atol)
        np.testing.assert_allclose(x.T_camera_lidar, y.T_camera_lidar, atol=atol)
        assert (x.width, x.height) == (y.width, y.height)
