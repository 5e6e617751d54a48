"""SSCBench-KITTI-360: one drive with rectified images, poses and voxelised truths (Li et al., SSCBench).

SSCBench does not hand out the scans. Where KITTI-360's are put beside the images (velodyne_points/data, numbered like them), they
are read; without them a frame's points are the centres of the cells in voxels/NNNNNN.bin, and opening says so.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.camera import Camera
from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import read_array, read_bits, read_image, read_numbers, read_points
from occle_core.datasets.semantickitti import read_calibration
from occle_core.datasets.voxels import resample
from occle_core.frame import Frame
from occle_core.grid import SEMANTICKITTI, VoxelGrid

LAYOUT = (
    "SSCBench-KITTI-360: ROOT/{calibration/{perspective.txt, calib_cam_to_velo.txt}, data_2d_raw/2013_05_28_drive_NNNN_sync/"
    "{image_00/data_rect/*.png, voxels/*.bin}}; cam0_to_world.txt, preprocess/labels, velodyne_points/data/*.bin where recorded"
)

DRIVES = "data_2d_raw"
PERIOD = 104_000_000
"""Nanoseconds between frames where no timestamps are: KITTI-360's scanner turns 9.6 times a second."""

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

    Frames are the images that have a scan or, without scans, a voxelised one (every fifth).

    Raises:
        DatasetError: no frames, or calibration or poses are missing or broken.
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
        scans = _numbered(folder / "velodyne_points" / "data", "*.bin")
        voxels = _numbered(folder / "voxels", "*.bin")
        if not scans:
            log.warning("%s has no velodyne_points/data: points are the centres of the cells in voxels/*.bin, intensity 0", folder)
        self._scans = scans
        images = _numbered(folder / "image_00" / "data_rect", "*.png")
        self._numbers = sorted(set(images) & set(scans or voxels))
        if not self._numbers:
            raise DatasetError(f"{folder}: none of {len(images)} images has a scan of its number; expected {LAYOUT}")
        self._images, self._voxels = images, voxels
        perspective = read_calibration(self.root / "calibration" / "perspective.txt", P_rect_00=12, R_rect_00=9)
        T_velo_cam = read_numbers(self.root / "calibration" / "calib_cam_to_velo.txt", 12).reshape(-1, 3, 4)
        if len(T_velo_cam) != 1:
            raise DatasetError(f"{self.root / 'calibration' / 'calib_cam_to_velo.txt'} needs one line of 12 numbers")
        rectify = np.eye(4)
        rectify[:3, :3] = perspective["R_rect_00"].reshape(3, 3)
        self._P = perspective["P_rect_00"]
        self._T_rectified_velo: NDArray[np.float64] = rectify @ np.linalg.inv(np.vstack([T_velo_cam[0], [0, 0, 0, 1]]))
        self._poses = self._read_poses()
        self.stamps: list[int] = [number * PERIOD for number in self._numbers]

    def __len__(self) -> int:
        return len(self._numbers)

    def frame(self, i: int) -> Frame:
        """Scan `i` with its image."""
        image = read_image(self._images[self._numbers[i]])
        camera = Camera.from_projection(self._P, self._T_rectified_velo, image.shape[1], image.shape[0])
        # A drive's poses may begin later than its images.
        pose = self.pose(i) if self._poses and self._numbers[i] in self._poses else None
        return Frame(self.stamps[i], self.points(i), [image], [camera], self.T_grid_lidar, pose)

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`, or the centres of its voxels."""
        if self._scans:
            return read_points(self._scans[self._numbers[i]], 4)
        cells = np.argwhere(read_bits(self._voxels[self._numbers[i]], SEMANTICKITTI.shape))
        return np.concatenate([SEMANTICKITTI.centers(cells), np.zeros((len(cells), 1), np.float32)], 1)

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """T_world_lidar (4, 4) from cam0_to_world.txt; None without that file.

        Raises:
            DatasetError: the file has no pose for this frame.
        """
        number = self._numbers[i]
        if self._poses is None:
            return None
        if number not in self._poses:
            raise DatasetError(f"{self.folder / 'cam0_to_world.txt'} has no pose for frame {number}")
        return np.asarray(self._poses[number] @ self._T_rectified_velo)

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """SSCBench has no point labels: None."""
        return None

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """Not known: None."""
        return None

    def has_truth(self, i: int) -> bool:
        """Whether voxels/NNNNNN.label or preprocess/labels/DRIVE/NNNNNN_1_1.npy is there."""
        return self._label(i).is_file() or self._preprocessed(i).is_file()

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """voxels/NNNNNN.label with .invalid taken out, else the preprocessed labels, on `grid`; None without either."""
        if self._label(i).is_file():
            raw = read_array(self._label(i), np.uint16, count=SEMANTICKITTI.size).reshape(SEMANTICKITTI.shape)
            labels = self.taxonomy.from_raw(raw)
            labels[read_bits(self._label(i).with_suffix(".invalid"), SEMANTICKITTI.shape)] = self.taxonomy.ignore
        elif self._preprocessed(i).is_file():
            labels = self._read_preprocessed(self._preprocessed(i))
        else:
            return None
        return resample(labels, SEMANTICKITTI, grid, self.taxonomy)

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """SSCBench-KITTI-360 has no sensor masks: an empty dict."""
        return {}

    def image_file(self, i: int, camera: str) -> Path | None:
        """image_00/data_rect/NNNNNN.png of frame `i`."""
        return self._images[self._numbers[i]] if camera in self.camera_names else None

    def image_stamp(self, i: int, camera: str) -> int:
        """The scan's time: SSCBench's frames are synchronised."""
        return self.stamps[i]

    def _label(self, i: int) -> Path:
        return self.folder / "voxels" / f"{self._images[self._numbers[i]].stem}.label"

    def _preprocessed(self, i: int) -> Path:
        return self.root / "preprocess" / "labels" / self.folder.resolve().name / f"{self._images[self._numbers[i]].stem}_1_1.npy"

    def _read_preprocessed(self, file: Path) -> NDArray[np.uint8]:
        try:
            labels = np.load(file, allow_pickle=False)
        except ValueError as error:
            raise DatasetError(f"{file} is not a numpy file of labels: {error}") from error
        wrong = labels.shape != SEMANTICKITTI.shape
        if wrong or (found := np.unique(labels[(labels != self.taxonomy.ignore) & (labels >= self.taxonomy.num_classes)])).size:
            reason = f"is {labels.shape}, not {SEMANTICKITTI.shape}" if wrong else f"holds {found.tolist()}, which are no class ids"
            raise DatasetError(f"{file} {reason}")
        return np.asarray(labels, np.uint8)

    def _read_poses(self) -> dict[int, NDArray[np.float64]] | None:
        file = self.folder / "cam0_to_world.txt"
        if not file.is_file():
            return None
        return {int(row[0]): row[1:].reshape(4, 4) for row in read_numbers(file, 17)}


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Files by the number that they are called."""
    return {int(file.stem): file for file in sorted(folder.glob(pattern)) if file.stem.isdigit()}
