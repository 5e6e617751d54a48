# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SSCBench-KITTI-360: one drive with rectified images, poses and voxelised truths (Li et al., SSCBench).

SSCBench numbers the images anew, in six digits: its image i is the frame of line i + 2 of cam0_to_world.txt, which keeps
KITTI-360's numbers. Files of ten digits (KITTI-360's own images and scans) have KITTI-360's numbers.

SSCBench does not hand out the scans. Where KITTI-360's are put beside the images, they are read; without them a frame's points
are the centres of the cells in voxels/NNNNNN.bin, and opening says so.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import COPY_AGAIN, read_array, read_bits, read_image, read_npy, read_numbers, read_points
from occle_core.datasets.poses import rigid_transform, rotation_transform
from occle_core.datasets.semantickitti import camera_of, read_calibration
from occle_core.datasets.voxels import resample
from occle_core.frame import Frame
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid

LAYOUT = (
    "SSCBench-KITTI-360: ROOT/{calibration/{perspective.txt, calib_cam_to_velo.txt}, data_2d_raw/2013_05_28_drive_NNNN_sync/"
    "{image_00/data_rect/*.png, voxels/*.bin}}; cam0_to_world.txt, preprocess/labels, velodyne_points/data/*.bin where recorded"
)

DRIVES = "data_2d_raw"
PERIOD = 104_000_000
"""Nanoseconds between KITTI-360's frames: its scanner rotates at 9.6 Hz."""
OWN_DIGITS = 10
"""Length of KITTI-360's own frame numbers in file names."""

log = logging.getLogger(__name__)


def scenes(path: Path) -> dict[str, Path]:
    """The drives at `path`: itself, or those of a data set root; empty where it is no such layout."""
    if (path / "image_00" / "data_rect").is_dir() and (path / "voxels").is_dir():
        return {path.resolve().name: path}
    for root in (path / DRIVES, path / "KITTI-360" / DRIVES, path):
        found = {folder.name: folder for folder in sorted(root.glob("*_sync")) if (folder / "voxels").is_dir()}
        if found:
            return found
    return {}


class Kitti360Dataset:
    """A drive; see `occle_core.datasets.Dataset`. The poses' world is KITTI-360's own.

    Frames are the images that have a scan or, without scans, a voxelised one (every fifth). `numbers` are the images'.

    Raises:
        DatasetError: no frames, scans that cannot be matched with the images, or calibration or poses are missing or broken.
    """

    kind = "kitti360"
    lidar_frame = "velodyne"
    grid_frame = "velodyne"
    camera_names = ("image_00",)

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder
        self.root = folder.resolve().parent.parent
        self.taxonomy = taxonomy.load("sscbench_kitti360")
        self.T_grid_lidar: NDArray[np.float64] = np.eye(4)
        self._images = _numbered(folder / "image_00" / "data_rect", "*.png")
        self._voxels = _numbered(folder / "voxels", "*.bin")
        self._poses = self._read_poses()
        self._own_numbers = self._match()
        self._scans = self._find_scans()
        if not self._scans:
            log.warning("%s has no velodyne_points/data: points are the centres of the cells in voxels/*.bin, intensity 0", folder)
        self.numbers = sorted(set(self._images) & set(self._scans or self._voxels))
        if not self.numbers:
            raise DatasetError(f"{folder}: none of {len(self._images)} images has a scan; expected {LAYOUT}")
        perspective = read_calibration(self.root / "calibration" / "perspective.txt", P_rect_00=12, R_rect_00=9)
        extrinsics = self.root / "calibration" / "calib_cam_to_velo.txt"
        T_velo_cam = read_numbers(extrinsics, 12)
        if len(T_velo_cam) != 1:
            raise DatasetError(f"{extrinsics} needs one line of 12 numbers")
        rectify = rotation_transform(perspective["R_rect_00"], f"{self.root / 'calibration' / 'perspective.txt'}: R_rect_00")
        self._P = perspective["P_rect_00"]
        self._T_rectified_velo: NDArray[np.float64] = rectify @ np.linalg.inv(rigid_transform(T_velo_cam, str(extrinsics)))
        # Without poses KITTI-360's numbers are unknown; SSCBench's leave out where the vehicle stood.
        self.stamps: list[int] = [self._own_numbers.get(number, number) * PERIOD for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self, i: int) -> Frame:
        """Scan `i` with its image."""
        image = read_image(self._images[self.numbers[i]])
        camera = camera_of(image, self._P, self._T_rectified_velo, self.root / "calibration" / "perspective.txt")
        return Frame(self.stamps[i], self.points(i), [image], [camera], self.T_grid_lidar, self.pose(i))

    def files(self, i: int) -> list[Path]:
        """The scan, or the voxels that stand for it, and the image."""
        number = self.numbers[i]
        return [(self._scans or self._voxels)[number], self._images[number]]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`, or the centres of its voxels."""
        if self._scans:
            return read_points(self._scans[self.numbers[i]], 4)
        cells = np.argwhere(read_bits(self._voxels[self.numbers[i]], SEMANTICKITTI.size).reshape(SEMANTICKITTI.shape))
        return np.concatenate([SEMANTICKITTI.centers(cells), np.zeros((len(cells), 1), np.float32)], 1)

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """T_world_lidar (4, 4) from cam0_to_world.txt; None where that has none for the frame."""
        pose = self._poses.get(self._own_numbers.get(self.numbers[i], -1))
        return None if pose is None else np.asarray(pose @ self._T_rectified_velo)

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """SSCBench has no point labels: None."""
        return None

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """Not known: None."""
        return None

    def has_truth(self, i: int) -> bool:
        """True if voxels/NNNNNN.label or preprocess/labels/DRIVE/NNNNNN_1_1.npy exists."""
        return self._label(i).exists() or self._preprocessed(i).exists()

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """voxels/NNNNNN.label, else the preprocessed labels, on `grid`; None without either.

        A cell is unknown where .invalid says so and it has no label (SSCBench's preprocess.py).
        """
        if self._label(i).exists():
            raw = read_array(self._label(i), np.uint16, count=SEMANTICKITTI.size)
            labels = self.taxonomy.from_raw(raw)
            labels[_read_invalid(self._label(i).with_suffix(".invalid")) & (raw == 0)] = self.taxonomy.ignore
            labels = labels.reshape(SEMANTICKITTI.shape)
        elif self._preprocessed(i).exists():
            labels = self._read_preprocessed(self._preprocessed(i))
        else:
            return None
        return resample(labels, SEMANTICKITTI, grid, self.taxonomy)

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """SSCBench-KITTI-360 has no sensor masks: an empty dict."""
        return {}

    def image_file(self, i: int, camera: str) -> Path | None:
        """image_00/data_rect/NNNNNN.png of frame `i`."""
        return self._images[self.numbers[i]] if camera in self.camera_names else None

    def image_stamp(self, i: int, camera: str) -> int:
        """The scan's time: SSCBench's frames are synchronised."""
        return self.stamps[i]

    def _match(self) -> dict[int, int]:
        """Image number -> KITTI-360's frame number, as far as it is known."""
        if all(len(file.stem) == OWN_DIGITS for file in self._images.values()):
            return {number: number for number in self._images}
        return dict(enumerate(sorted(self._poses)[1:]))

    def _find_scans(self) -> dict[int, Path]:
        """Image number -> scan.

        Raises:
            DatasetError: the scans have KITTI-360's numbers, and those of the images are unknown.
        """
        folder = self.folder / "velodyne_points" / "data"
        scans = _numbered(folder, "*.bin")
        if not any(len(file.stem) == OWN_DIGITS for file in scans.values()):
            return scans  # numbered like the images
        if not self._own_numbers:
            raise DatasetError(
                f"{folder}: SSCBench's images have numbers of their own, and cam0_to_world.txt, which gives KITTI-360's, is "
                f"missing in {self.folder}; put it there (KITTI-360's data_poses), or move the scans away"
            )
        return {number: scans[own] for number, own in self._own_numbers.items() if own in scans}

    def _label(self, i: int) -> Path:
        return self.folder / "voxels" / f"{self._images[self.numbers[i]].stem}.label"

    def _preprocessed(self, i: int) -> Path:
        return self.root / "preprocess" / "labels" / self.folder.resolve().name / f"{self._images[self.numbers[i]].stem}_1_1.npy"

    def _read_preprocessed(self, file: Path) -> NDArray[np.uint8]:
        labels = read_npy(file)
        if labels.shape != SEMANTICKITTI.shape:
            raise DatasetError(f"{file} is {labels.shape}, not {SEMANTICKITTI.shape}")
        is_class = (labels >= 0) & (labels < self.taxonomy.num_classes) & (labels % 1 == 0)
        strange = np.unique(labels[~is_class & (labels != self.taxonomy.ignore)])
        if strange.size:
            raise DatasetError(f"{file} holds {strange[:10].tolist()}, which are no class ids")
        return np.asarray(labels, np.uint8)

    def _read_poses(self) -> dict[int, NDArray[np.float64]]:
        """KITTI-360's frame number -> T_world_camera (4, 4); empty without cam0_to_world.txt."""
        file = self.folder / "cam0_to_world.txt"
        if not file.exists():
            return {}
        rows = read_numbers(file, 17)
        return {int(row[0]): rigid_transform(row[1:], f"{file}, frame {int(row[0])}") for row in rows}


def _read_invalid(file: Path) -> NDArray[np.bool_]:
    """(2097152,) bool of a .invalid file: a byte a voxel, as SSCBench hands it out, or a bit as in SemanticKITTI."""
    if file.is_file() and file.stat().st_size == SEMANTICKITTI.size // 8:
        return read_bits(file, SEMANTICKITTI.size)
    values = read_array(file, np.uint8, count=SEMANTICKITTI.size)
    if values.max() > 1:
        raise DatasetError(
            f"{file} holds {int(values.max())}, but a byte a voxel is 0 or 1: damaged or of another format; {COPY_AGAIN}"
        )
    return values.astype(np.bool_)


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Files by the number that they are called."""
    return {int(file.stem): file for file in sorted(folder.glob(pattern)) if file.stem.isdigit()}
