# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Extracts of nuScenes without its tables: infos.json (keyframes with cameras), frames.json (labelled LiDAR scans, no images)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.datasets.base import DatasetError, Unlabelled
from occle_core.datasets.files import read_image, read_json, read_point_labels, read_points
from occle_core.datasets.nuscenes import CAMERAS
from occle_core.datasets.poses import inside_oriented_box, rigid_transform
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera

LAYOUT = "nuScenes extract: infos.json with samples/, or frames.json with lidar/NN.bin and labels16/NN.label"

MOVABLE = {2, 3, 4, 5, 6, 7, 9, 10}
"""Classes of nuScenes' 16 that move by themselves: cycles, vehicles, people."""


def scenes(path: Path) -> dict[str, Path]:
    """Scene name -> its JSON file, for a folder or the file itself; empty where it is no such layout."""
    file = path if path.suffix == ".json" else path / "infos.json"
    if file.name == "infos.json" and file.is_file():
        return {_scene(info, file): file for info in _rows(file)}
    file = path if path.suffix == ".json" else path / "frames.json"
    if file.name == "frames.json" and file.is_file():
        return {file.resolve().parent.name: file}
    return {}


class _Extract(Unlabelled):
    """Base of both extracts: LiDAR mounting and poses as 4x4 matrices in a list of rows."""

    kind = "nuscenes"
    lidar_frame = "lidar_top"
    grid_frame = "base_link"
    camera_names: tuple[str, ...] = ()

    def __init__(self, file: Path, name: str, rows: list[dict[str, Any]]) -> None:
        self.name = name
        self.taxonomy = taxonomy.load("occ3d_nuscenes")
        self._file = file
        self._frames = sorted(rows, key=lambda row: int(row["timestamp_us"]))
        if not self._frames:
            raise DatasetError(f"{file} lists no frames of {name}")
        self.numbers = list(range(len(self._frames)))
        self.stamps = [int(row["timestamp_us"]) * 1000 for row in self._frames]
        self.T_grid_lidar: NDArray[np.float64] = self._matrix(0, "lidar2ego")

    def __len__(self) -> int:
        return len(self._frames)

    def pose(self, i: int) -> NDArray[np.float64]:
        """T_world_lidar (4, 4)."""
        return self._matrix(i, "ego2global") @ self._matrix(i, "lidar2ego")

    def _matrix(self, i: int, key: str) -> NDArray[np.float64]:
        where = f"{self._file}: {key} of the frame at {self._frames[i]['timestamp_us']} us"
        return rigid_transform(self._frames[i].get(key, ()), where)


class NuScenesInfosDataset(_Extract):
    """The keyframes of one scene in infos.json; no labels. See `occle_core.datasets.Dataset`."""

    def __init__(self, file: Path, name: str) -> None:
        super().__init__(file, name, [info for info in _rows(file, "cams", "lidar_path") if _scene(info, file) == name])
        # A camera that dropped a keyframe belongs to the rig all the same; that frame has no image of it.
        self._cameras = {name: camera for info in reversed(self._frames) for name, camera in info["cams"].items()}
        self.camera_names = tuple(camera for camera in CAMERAS if camera in self._cameras)
        for camera in (camera for info in self._frames for camera in info["cams"].values()):
            lacking = [key for key in ("img_path", "cam_intrinsic", "lidar2cam", "timestamp_us") if key not in camera]
            if lacking:
                raise DatasetError(f"{file}: a camera of {name} has no {', '.join(lacking)}")

    def frame(self, i: int) -> Frame:
        """Scan `i` with the images that belong to it."""
        images: list[NDArray[np.uint8] | None] = []
        cameras = []
        for name in self.camera_names:
            file = self.image_file(i, name)
            # lidar2cam holds the vehicle's motion between the two shutter times.
            camera = self._frames[i]["cams"].get(name, self._cameras[name])
            image = read_image(self._file.parent / camera["img_path"])
            images.append(None if file is None else image)
            T_camera_lidar = rigid_transform(camera["lidar2cam"], f"{self._file}: lidar2cam of {camera['img_path']}")
            cameras.append(Camera(camera["cam_intrinsic"], T_camera_lidar, image.shape[1], image.shape[0]))
        return Frame(self.stamps[i], self.points(i), images, cameras, self.T_grid_lidar, self.pose(i))

    def files(self, i: int) -> list[Path]:
        """The scan and the images that the extract lists."""
        images = [self.image_file(i, name) for name in self.camera_names]
        return [self._scan_file(i), *(file for file in images if file is not None)]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`."""
        return read_points(self._scan_file(i), 5, intensity_scale=255)

    def image_file(self, i: int, camera: str) -> Path | None:
        """The image file of frame `i`; None where the camera dropped it."""
        entry = self._frames[i]["cams"].get(camera) if camera in self.camera_names else None
        return None if entry is None else self._file.parent / entry["img_path"]

    def image_stamp(self, i: int, camera: str) -> int:
        """The shutter time; the scan's where the camera dropped the frame."""
        entry = self._frames[i]["cams"].get(camera) if camera in self.camera_names else None
        return self.stamps[i] if entry is None else int(entry["timestamp_us"]) * 1000

    def _scan_file(self, i: int) -> Path:
        return self._file.parent / str(self._frames[i]["lidar_path"])


class NuScenesLidarDataset(_Extract):
    """The labelled scans of frames.json; no images. See `occle_core.datasets.Dataset`."""

    def __init__(self, file: Path, name: str) -> None:
        boxes = ("boxes_token", "boxes_category16", "boxes_lidar")
        super().__init__(file, name, _rows(file, "frame", "n_points", *boxes))

    def frame(self, i: int) -> Frame:
        """Scan `i`, without images."""
        return Frame(self.stamps[i], self.points(i), T_grid_lidar=self.T_grid_lidar, T_world_lidar=self.pose(i))

    def files(self, i: int) -> list[Path]:
        """lidar/NN.bin."""
        return [self._file.parent / "lidar" / f"{self._frames[i]['frame']:02d}.bin"]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`."""
        return read_points(self.files(i)[0], 4, intensity_scale=255)

    def point_labels(self, i: int) -> NDArray[np.uint8]:
        """(N,) class ids, 255 where the file says 0, noise."""
        file = self._file.parent / "labels16" / f"{self._frames[i]['frame']:02d}.label"
        labels = read_point_labels(file, np.uint8, self.files(i)[0], 4)
        return np.where((labels > 0) & (labels <= 16), labels, self.taxonomy.ignore).astype(np.uint8)

    def moving(self, i: int) -> NDArray[np.bool_]:
        """(N,) bool: points in boxes of people and vehicles whose instance moves between this frame and a neighbour."""
        points = self.points(i)
        found = np.zeros(len(points), np.bool_)
        here, others = self._boxes(i), [self._boxes(j) for j in (i - 1, i + 1) if 0 <= j < len(self)]
        for token, (category, center, T_lidar_box, size) in here.items():
            if category not in MOVABLE:
                continue
            seen = [float(np.linalg.norm(other[token][1] - center)) for other in others if token in other]
            # An instance that is seen once may move: it counts as moving. Boxes of standing cars wander by about 0.2 m.
            if not seen or max(seen) > 0.4:
                found |= inside_oriented_box(points, T_lidar_box, size)
        return found

    def image_file(self, i: int, camera: str) -> None:
        """Not recorded."""

    def image_stamp(self, i: int, camera: str) -> int:
        """There are no images: the scan's time."""
        return self.stamps[i]

    def _boxes(self, i: int) -> dict[str, tuple[int, NDArray[np.float64], NDArray[np.float64], tuple[float, float, float]]]:
        """Instance token -> class, centre in the world, T_lidar_box, (length, width, height)."""
        row, pose = self._frames[i], self.pose(i)
        boxes = {}
        for token, category, (x, y, z, width, length, height, yaw) in zip(
            row["boxes_token"], row["boxes_category16"], row["boxes_lidar"]
        ):
            heading = yaw + np.pi / 2  # as shipped, yaw turns from +y and z is the box's floor
            T_lidar_box = np.eye(4)
            T_lidar_box[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
            T_lidar_box[:3, 3] = x, y, z + height / 2
            boxes[token] = (int(category), (pose @ T_lidar_box)[:3, 3], T_lidar_box, (length, width, height))
        return boxes


def _scene(info: dict[str, Any], file: Path) -> str:
    # The scene's name may be followed by remarks.
    words = str(info.get("scene", "")).split()
    if not words:
        raise DatasetError(f"{file}: a frame without a scene")
    return words[0]


def _rows(file: Path, *fields: str) -> list[dict[str, Any]]:
    """The extract's frames, each of which must have these fields and those of all extracts."""
    rows = read_json(file)
    wanted = ("timestamp_us", "lidar2ego", "ego2global", *fields)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and set(wanted) <= set(row) for row in rows):
        raise DatasetError(f"{file} must be a list of frames with {', '.join(wanted)}")
    return rows
