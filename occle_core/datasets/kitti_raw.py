# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""KITTI raw: one drive folder of image_02 and velodyne_points, with the calibration files of its day beside it."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.datasets.base import DatasetError, Unlabelled
from occle_core.datasets.files import COPY_AGAIN, read_image, read_points, read_text
from occle_core.datasets.poses import rigid_transform, rotation_transform
from occle_core.datasets.semantickitti import camera_of, read_calibration
from occle_core.frame import Frame

LAYOUT = "KITTI raw: DAY/DRIVE/{velodyne_points/data/*.bin, image_02/data/*.png} with DAY/calib_{cam_to_cam,velo_to_cam}.txt"

PERIOD = 100_000_000
"""Nanoseconds between scans where a drive has no timestamps.txt: the LiDAR rotates at 10 Hz."""


def scenes(path: Path) -> dict[str, Path]:
    """The drive folders at `path`: itself, or those up to three levels below; empty where it is no such layout."""
    if (path / "velodyne_points").is_dir():
        return {path.resolve().name: path}
    for depth in ("*", "*/*", "*/*/*"):
        found = {folder.parent.name: folder.parent for folder in sorted(path.glob(f"{depth}/velodyne_points"))}
        if found:
            return found
    return {}


class KittiRawDataset(Unlabelled):
    """A raw drive: scans and images; no labels, poses or truth. See `occle_core.datasets.Dataset`.

    Raises:
        DatasetError: no scans, broken calibration, or timestamps.txt of another length.
    """

    kind = "kitti"
    lidar_frame = "velodyne"
    grid_frame = "velodyne"

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.taxonomy = taxonomy.load("semantickitti")
        self.T_grid_lidar: NDArray[np.float64] = np.eye(4)
        self._scans = sorted((folder / "velodyne_points" / "data").glob("*.bin"))
        if not self._scans:
            raise DatasetError(f"{folder / 'velodyne_points' / 'data'} holds no .bin files")
        try:
            self.numbers = [int(scan.stem) for scan in self._scans]
        except ValueError as error:
            raise DatasetError(f"{self._scans[0].parent}: scans must be called NNNNNNNNNN.bin ({error})") from error
        self.camera_names = ("cam2",) if (folder / "image_02" / "data").is_dir() else ()
        day = folder.resolve().parent
        cameras = read_calibration(day / "calib_cam_to_cam.txt", P_rect_02=12, R_rect_00=9)
        lidar = read_calibration(day / "calib_velo_to_cam.txt", R=9, T=3)
        T_camera_lidar = rigid_transform(
            np.column_stack([lidar["R"].reshape(3, 3), lidar["T"]]), f"{day / 'calib_velo_to_cam.txt'}: R and T"
        )
        rectify = rotation_transform(cameras["R_rect_00"], f"{day / 'calib_cam_to_cam.txt'}: R_rect_00")
        self._P, self._T_rectified_lidar = cameras["P_rect_02"], rectify @ T_camera_lidar
        self.stamps = self._times("velodyne_points")
        self._image_stamps = self._times("image_02") if self.camera_names else []

    def __len__(self) -> int:
        return len(self._scans)

    def frame(self, i: int) -> Frame:
        """Scan `i` with its image."""
        images = [read_image(self.image_file(i, name) or Path()) for name in self.camera_names]
        file = self.folder.resolve().parent / "calib_cam_to_cam.txt"
        cameras = [camera_of(image, self._P, self._T_rectified_lidar, file) for image in images]
        return Frame(self.stamps[i], self.points(i), images, cameras, self.T_grid_lidar)

    def files(self, i: int) -> list[Path]:
        """velodyne_points/data/NNNNNNNNNN.bin and its image."""
        images = [self.image_file(i, name) for name in self.camera_names]
        return [self._scans[i], *(file for file in images if file is not None)]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`."""
        return read_points(self._scans[i], 4)

    def pose(self, i: int) -> None:
        """Not recorded here: the OXTS packets are not read."""

    def image_file(self, i: int, camera: str) -> Path | None:
        """image_02/data/NNNNNNNNNN.png (or .jpg) of frame `i`."""
        if camera not in self.camera_names:
            return None
        png = self.folder / "image_02" / "data" / f"{self._scans[i].stem}.png"
        jpg = png.with_suffix(".jpg")
        return jpg if not png.is_file() and jpg.is_file() else png

    def image_stamp(self, i: int, camera: str) -> int:
        """The shutter time from image_02/timestamps.txt."""
        return self._image_stamps[i] if camera in self.camera_names else self.stamps[i]

    def _times(self, sensor: str) -> list[int]:
        """The listed scans' times: line k of timestamps.txt is of frame k; the line of a frame that was lost may be blank."""
        file = self.folder / sensor / "timestamps.txt"
        if not file.exists():
            logging.getLogger(__name__).warning("%s is missing: taking %d ms between frames", file, PERIOD // 1_000_000)
            return [number * PERIOD for number in self.numbers]
        lines = read_text(file).splitlines()
        if len(lines) <= max(self.numbers):
            raise DatasetError(f"{file} has {len(lines)} lines, but the scans go up to number {max(self.numbers)}")
        blank = [number for number in self.numbers if not lines[number].strip()]
        if blank:
            raise DatasetError(f"{file} line {blank[0] + 1} is blank, but scan {blank[0]} is there; {COPY_AGAIN}")
        return [_nanoseconds(lines[number], file) for number in self.numbers]


def _nanoseconds(text: str, file: Path) -> int:
    """`2011-09-26 13:02:25.951199337` -> nanoseconds since 1970; datetime alone would lose the last three digits."""
    whole, _, fraction = text.strip().partition(".")
    try:
        seconds = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
        return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
    except ValueError as error:
        raise DatasetError(f"{file}: {text!r} is not a time like 2011-09-26 13:02:25.951199337") from error
