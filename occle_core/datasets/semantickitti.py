# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI and KITTI odometry: one sequence folder with velodyne, image_2, calib.txt, times.txt and what else there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import read_image, read_numbers, read_point_labels, read_points, read_text, warn_once
from occle_core.datasets.poses import rigid_transform
from occle_core.datasets.semantickitti_voxels import VoxelFolder
from occle_core.datasets.voxels import resample
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid
from occle_core.geometry.rigid import is_rigid

LAYOUT = "SemanticKITTI: sequences/NN/{velodyne/*.bin, calib.txt, times.txt} with image_2, poses.txt, labels, voxels where recorded"

MOVING = range(252, 260)
"""Raw point ids of objects in motion."""


def scenes(path: Path) -> dict[str, Path]:
    """The sequence folders at `path`: itself, or those of a data set root; empty where it is no such layout."""
    if (path / "velodyne").is_dir():
        return {path.resolve().name: path}
    for root in (path / "sequences", path / "dataset" / "sequences", path):
        found = {folder.name: folder for folder in sorted(root.glob("*")) if (folder / "velodyne").is_dir()}
        if found:
            return found
    return {}


class SemanticKittiDataset:
    """A sequence folder; see `occle_core.datasets.Dataset`. The world frame of the poses is the first scan's LiDAR frame.

    Raises:
        DatasetError: no scans, or calib.txt, times.txt or poses.txt is broken or shorter than the scans.
    """

    kind = "semantickitti"
    lidar_frame = "velodyne"
    grid_frame = "velodyne"

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.taxonomy = taxonomy.load("semantickitti")
        self.T_grid_lidar: NDArray[np.float64] = np.eye(4)
        self._scans = sorted((folder / "velodyne").glob("*.bin"))
        if not self._scans:
            raise DatasetError(f"{folder / 'velodyne'} holds no .bin files")
        # Frames are numbered by file name: times.txt and poses.txt hold one line for every frame of the whole sequence.
        try:
            self.numbers = [int(scan.stem) for scan in self._scans]
        except ValueError as error:
            raise DatasetError(f"{folder / 'velodyne'}: scans must be called NNNNNN.bin ({error})") from error
        self._voxels = VoxelFolder(folder / "voxels", [scan.stem for scan in self._scans], self.points)
        self.camera_names = ("cam2",) if (folder / "image_2").is_dir() else ()
        calibration = read_calibration(folder / "calib.txt", P2=12, Tr=12)
        self._P2, self._T_camera_lidar = calibration["P2"], rigid_transform(calibration["Tr"], f"{folder / 'calib.txt'}: Tr")
        seconds = self._rows("times.txt", 1)[:, 0]
        if not np.isfinite(seconds).all():
            line = self.numbers[int(np.isnan(seconds).argmax())] + 1
            raise DatasetError(f"{folder / 'times.txt'} line {line} is blank, but its scan is there; give it a time in seconds")
        self.stamps: list[int] = [round(value * 1e9) for value in seconds.tolist()]
        self._poses = self._read_poses() if (folder / "poses.txt").exists() else None

    def __len__(self) -> int:
        return len(self._scans)

    def frame(self, i: int) -> Frame:
        """Scan `i` with its image."""
        images, cameras = [], []
        for name in self.camera_names:
            image = read_image(self.image_file(i, name) or Path())
            images.append(image)
            cameras.append(camera_of(image, self._P2, self._T_camera_lidar, self.folder / "calib.txt"))
        return Frame(self.stamps[i], self.points(i), images, cameras, self.T_grid_lidar, self.pose(i))

    def files(self, i: int) -> list[Path]:
        """velodyne/NNNNNN.bin and its image."""
        images = [self.image_file(i, name) for name in self.camera_names]
        return [self._scans[i], *(file for file in images if file is not None)]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`."""
        return read_points(self._scans[i], 4)

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """T_world_lidar (4, 4): poses.txt is the left camera's, in the first camera's frame; None for a blank line."""
        if self._poses is None or np.isnan(self._poses[i]).any():
            return None
        return np.asarray(np.linalg.inv(self._T_camera_lidar) @ self._poses[i] @ self._T_camera_lidar)

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """(N,) class ids, 255 unlabelled; None in a sequence without labels."""
        raw = self._raw_labels(i)
        return None if raw is None else self.taxonomy.points_from_raw(raw)

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """(N,) bool from the raw ids 252..259; None in a sequence without labels."""
        raw = self._raw_labels(i)
        return None if raw is None else (raw >= MOVING.start) & (raw < MOVING.stop)

    def has_truth(self, i: int) -> bool:
        """True if voxels/NNNNNN.label exists."""
        return self._voxels.file(i, "label").exists()

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """voxels/NNNNNN.label with .invalid taken out, on `grid`; None where frame `i` has no .label."""
        if not self.has_truth(i):
            return None
        labels = self.taxonomy.from_raw(self._voxels.raw_labels(i))
        labels[self._voxels.bits(i, "invalid")] = self.taxonomy.ignore
        return resample(self._voxels.placed(labels, self.taxonomy.ignore), SEMANTICKITTI, grid, self.taxonomy)

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """SemanticKITTI has no sensor masks: an empty dict."""
        return {}

    def has_voxels(self, i: int) -> bool:
        """True if voxels/NNNNNN.bin exists; the hidden test set has those alone."""
        return self._voxels.file(i, "bin").exists()

    def image_file(self, i: int, camera: str) -> Path | None:
        """image_2/NNNNNN.png (or .jpg) of frame `i`."""
        if camera not in self.camera_names:
            return None
        png = self.folder / "image_2" / f"{self._scans[i].stem}.png"
        jpg = png.with_suffix(".jpg")
        return jpg if not png.is_file() and jpg.is_file() else png

    def image_stamp(self, i: int, camera: str) -> int:
        """KITTI's camera fires as the LiDAR faces forward: the scan's time."""
        return self.stamps[i]

    def _raw_labels(self, i: int) -> NDArray[np.uint16] | None:
        if not (self.folder / "labels").is_dir():
            return None
        scan = self._scans[i]
        labels = read_point_labels(self.folder / "labels" / f"{scan.stem}.label", np.uint32, scan, 4)
        return (labels & 0xFFFF).astype(np.uint16)  # the high half is the instance

    def _read_poses(self) -> NDArray[np.float64]:
        """(N, 4, 4) of the scans, NaN where a line is blank."""
        rows = self._rows("poses.txt", 12).reshape(-1, 3, 4)
        poses = np.concatenate([rows, np.broadcast_to([0.0, 0, 0, 1], (len(rows), 1, 4))], 1)
        for i in np.flatnonzero(~is_rigid(poses) & ~np.isnan(rows).any(axis=(1, 2)))[:1]:
            where = f"{self.folder / 'poses.txt'} line {self.numbers[i] + 1}"
            raise DatasetError(
                f"{where} is not a rotation with a translation: {rows[i].round(4).tolist()}; leave the line of an unknown pose "
                "blank"
            )
        return poses

    def _rows(self, name: str, columns: int) -> NDArray[np.float64]:
        rows = read_numbers(self.folder / name, columns, blank_rows=True)
        if len(rows) <= max(self.numbers):
            raise DatasetError(f"{self.folder / name} has {len(rows)} lines, but the scans go up to number {max(self.numbers)}")
        return rows[self.numbers]


def read_calibration(path: Path, **wanted: int) -> dict[str, NDArray[np.float64]]:
    """Lines `KEY: numbers` of a KITTI calibration file.

    Args:
        path: the file.
        wanted: the keys that must be there, and how many numbers each has.

    Raises:
        DatasetError: a key is missing or has another number of values.
    """
    found = {}
    for line in read_text(path).splitlines():
        key, _, values = line.partition(":")
        found[key.strip()] = values.split()
    result = {}
    for key, count in wanted.items():
        if key not in found:
            raise DatasetError(f"{path} has no {key}; it has {', '.join(found)}")
        try:
            result[key] = np.array(found[key], np.float64)
        except ValueError as error:
            raise DatasetError(f"{path}: {key} is not a list of numbers: {error}") from error
        if result[key].size != count or not np.isfinite(result[key]).all():
            raise DatasetError(f"{path}: {key} needs {count} finite numbers, it has {result[key].size}")
    return result


def camera_of(image: NDArray[np.uint8], P: NDArray[np.float64], T_rectified_lidar: NDArray[np.float64], file: Path) -> Camera:
    """The camera of an image whose calibration gives no size; a line says where the principal point is far from the middle.

    Args:
        image: (H, W, 3).
        P: its projection, twelve numbers.
        T_rectified_lidar: (4, 4).
        file: which has P.
    """
    height, width = image.shape[:2]
    u, v = P[[2, 6]]
    if not (0.25 < u / width < 0.75 and 0.25 < v / height < 0.75):
        warn_once(
            f"{file}: the principal point ({u:.0f}, {v:.0f}) is far from the middle of images of {width}x{height}: if they were "
            "resized or cropped, change the projection matrix alike"
        )
    return Camera.from_projection(P, T_rectified_lidar, width, height)
