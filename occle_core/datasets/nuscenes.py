# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""nuScenes from its JSON tables, with lidarseg labels and Occ3D truth where they lie beside them. The devkit is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import read_image, read_npz, read_point_labels, read_points
from occle_core.datasets.nuscenes_tables import Row, Tables, open_tables
from occle_core.datasets.poses import TrackedBox, inside_oriented_box, transform_from_row
from occle_core.datasets.voxels import resample
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid

LAYOUT = (
    "nuScenes: ROOT/v1.0-*/{scene,sample,sample_data,...}.json with samples/, and lidarseg/ and gts/SCENE/TOKEN/labels.npz if there"
)

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
"""nuScenes' cameras, in the order that occle uses everywhere."""

AT_REST = {"vehicle.parked", "cycle.without_rider"}
"""Attributes of boxes that stay where they are for a whole scene."""


def scenes(path: Path) -> dict[str, tuple[Path, str]]:
    """Scene name -> (root, version folder) of the tables at `path`, a root or a version folder; empty in another layout."""
    if (path / "scene.json").is_file() and (path / "sample_data.json").is_file():
        versions = [path.resolve()]
    else:
        versions = sorted(file.parent.resolve() for file in path.glob("*/scene.json"))
    found = {}
    for version in versions:
        for row in open_tables(version.parent, version.name).read("scene"):
            found[str(row["name"])] = (version.parent, version.name)
    return found


class NuScenesDataset:
    """The keyframes of one scene; see `occle_core.datasets.Dataset`. The grid frame is the ego vehicle at the scan's time.

    Raises:
        DatasetError: a table is missing or broken, or lacks the scene.
    """

    kind = "nuscenes"
    lidar_frame = "lidar_top"
    grid_frame = "base_link"
    image_size: tuple[int, int] | None = None
    """(width, height) of images that is enough, see `read_image`."""

    def __init__(self, source: tuple[Path, str], name: str) -> None:
        self.name = name
        self.taxonomy = taxonomy.load("occ3d_nuscenes")
        self._tables: Tables = open_tables(*source)
        rows = [row for row in self._tables.index("scene").values() if row["name"] == name]
        if not rows:
            raise DatasetError(f"{self._tables.file('scene')} has no scene {name}")
        self._samples = self._tables.samples(rows[0])
        self._sensors = [self._tables.keyframes.get(sample["token"], {}) for sample in self._samples]
        for sample, sensors in zip(self._samples, self._sensors):
            if "LIDAR_TOP" not in sensors:
                raise DatasetError(f"{self._tables.file('sample_data')} has no LIDAR_TOP keyframe of sample {sample['token']}")
        if not self._samples:
            raise DatasetError(f"{self._tables.file('sample')} has no samples of scene {name}")
        # A camera that dropped a keyframe belongs to the rig all the same; that frame has no image of it.
        self._cameras = {name: row for sensors in reversed(self._sensors) for name, row in sensors.items() if name in CAMERAS}
        self.camera_names = tuple(camera for camera in CAMERAS if camera in self._cameras)
        self.numbers = list(range(len(self._samples)))
        self.stamps = [int(sensors["LIDAR_TOP"]["timestamp"]) * 1000 for sensors in self._sensors]
        self.T_grid_lidar: NDArray[np.float64] = self._mounting(self._sensors[0]["LIDAR_TOP"])

    def __len__(self) -> int:
        return len(self._samples)

    def frame(self, i: int) -> Frame:
        """Scan `i` with the images that belong to its sample."""
        cameras = [self._camera(i, name) for name in self.camera_names]
        files = [self.image_file(i, name) for name in self.camera_names]
        images = [
            None if file is None else read_image(file, (camera.width, camera.height), self.image_size)
            for file, camera in zip(files, cameras)
        ]
        cameras = [
            camera if image is None else camera.resized(image.shape[1], image.shape[0]) for image, camera in zip(images, cameras)
        ]
        return Frame(self.stamps[i], self.points(i), images, cameras, self.T_grid_lidar, self.pose(i))

    def files(self, i: int) -> list[Path]:
        """The scan and the images that the tables list."""
        images = [self.image_file(i, name) for name in self.camera_names]
        return [self._scan_file(i), *(file for file in images if file is not None)]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of scan `i`."""
        return read_points(self._scan_file(i), 5, intensity_scale=255)

    def sweeps(self, i: int, count: int) -> list[Frame]:
        """As `HasSweeps`: the 20 Hz scans of sweeps/, and keyframes among them, as far as the tables name them."""
        found: list[Frame] = []
        for row in self._sweep_rows(i, count):
            points = read_points(self._tables.root / row["filename"], 5, intensity_scale=255)
            pose = self._ego(row) @ self._mounting(row)
            found.append(Frame(int(row["timestamp"]) * 1000, points, T_grid_lidar=self.T_grid_lidar, T_world_lidar=pose))
        return found

    def sweep_files(self, i: int, count: int) -> list[Path]:
        """As `HasSweeps`."""
        return [self._tables.root / row["filename"] for row in self._sweep_rows(i, count)]

    def pose(self, i: int) -> NDArray[np.float64]:
        """T_world_lidar (4, 4): the ego pose at the scan's time, times the LiDAR's mounting."""
        row = self._sensors[i]["LIDAR_TOP"]
        return self._ego(row) @ self._mounting(row)

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """(N,) class ids, 255 unlabelled; None for a scan without lidarseg."""
        name = self._tables.lidarseg(self._sensors[i]["LIDAR_TOP"]["token"])
        if name is None:
            return None
        return self.taxonomy.points_from_raw(read_point_labels(self._tables.root / name, np.uint8, self._scan_file(i), 5))

    def boxes(self, i: int) -> list[TrackedBox]:
        """The boxes of people and vehicles in motion in frame `i`: all but parked vehicles and cycles without a rider."""
        found = []
        for row in self._tables.annotations(self._samples[i]["token"]):
            if self._tables.category(row).split(".")[0] in ("vehicle", "human") and not self._tables.attributes(row) & AT_REST:
                width, length, height = row["size"]
                found.append(TrackedBox(str(row["instance_token"]), transform_from_row(row), (length, width, height)))
        return found

    def moving(self, i: int) -> NDArray[np.bool_]:
        """(N,) bool: points in the boxes of people and vehicles in motion."""
        points = self.points(i)
        found = np.zeros(len(points), np.bool_)
        T_lidar_world = np.linalg.inv(self.pose(i))
        for box in self.boxes(i):
            found |= inside_oriented_box(points, T_lidar_world @ box.T_world_box, box.size)
        return found

    def has_truth(self, i: int) -> bool:
        """True if gts/SCENE/TOKEN/labels.npz exists."""
        return self._truth_file(i).exists()

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """The semantics of gts/SCENE/TOKEN/labels.npz on `grid`, masked by nothing; None where there is no such file."""
        if not self.has_truth(i):
            return None
        return resample(self.taxonomy.from_raw(_read_truth(self._truth_file(i), "semantics")), OCC3D_NUSCENES, grid, self.taxonomy)

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """Occ3D's cells seen by the "camera"s and by the "lidar", (200, 200, 16) bool each, as far as the truth's file has them."""
        file = self._truth_file(i)
        if not file.exists():
            return {}
        there = [sensor for sensor in ("camera", "lidar") if f"mask_{sensor}" in _truth_arrays(file, file.stat().st_mtime_ns)]
        return {sensor: _read_truth(file, f"mask_{sensor}").astype(np.bool_) for sensor in there}

    def image_file(self, i: int, camera: str) -> Path | None:
        """The image file of frame `i`; None where the camera dropped it."""
        row = self._sensors[i].get(camera) if camera in self.camera_names else None
        return None if row is None else Path(self._tables.root / row["filename"])

    def image_stamp(self, i: int, camera: str) -> int:
        """The shutter time; the scan's where the camera dropped the frame."""
        row = self._sensors[i].get(camera) if camera in self.camera_names else None
        return self.stamps[i] if row is None else int(row["timestamp"]) * 1000

    def _sweep_rows(self, i: int, count: int) -> Iterator[Row]:
        """Rows of the scans before frame `i`, newest first."""
        rows, row = self._tables.index("sample_data"), self._sensors[i]["LIDAR_TOP"]
        for _ in range(count):
            if not (row := rows.get(row.get("prev", ""), {})):
                return
            yield row

    def _camera(self, i: int, name: str) -> Camera:
        row = self._sensors[i].get(name, self._cameras[name])
        sensor = self._tables.find("calibrated_sensor", row["calibrated_sensor_token"])
        # The LiDAR and the camera fire at different times: the vehicle moves in between.
        ego = row if name in self._sensors[i] else self._sensors[i]["LIDAR_TOP"]
        T_world_camera = self._ego(ego) @ self._mounting(row)
        return Camera(sensor["camera_intrinsic"], np.linalg.inv(T_world_camera) @ self.pose(i), row["width"], row["height"])

    def _mounting(self, row: Row) -> NDArray[np.float64]:
        return transform_from_row(self._tables.find("calibrated_sensor", row["calibrated_sensor_token"]))

    def _ego(self, row: Row) -> NDArray[np.float64]:
        return transform_from_row(self._tables.find("ego_pose", row["ego_pose_token"]))

    def _scan_file(self, i: int) -> Path:
        return Path(self._tables.root / self._sensors[i]["LIDAR_TOP"]["filename"])

    def _truth_file(self, i: int) -> Path:
        return self._tables.root / "gts" / self.name / str(self._samples[i]["token"]) / "labels.npz"


@lru_cache(maxsize=1)
def _truth_arrays(file: Path, changed: int) -> dict[str, NDArray[Any]]:
    return read_npz(file)


def _read_truth(file: Path, name: str) -> NDArray[Any]:
    """An array of a truth, whole numbers (200, 200, 16) of any type; some converters write them as floats."""
    arrays = _truth_arrays(file, file.stat().st_mtime_ns)
    if name not in arrays or arrays[name].shape != OCC3D_NUSCENES.shape:
        shapes = {key: value.shape for key, value in arrays.items()}
        raise DatasetError(f"{file} must hold {name} of shape {OCC3D_NUSCENES.shape}; it holds {shapes}")
    values = arrays[name]
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise DatasetError(f"{file}: {name} holds {values.dtype} that are no whole numbers; class ids and masks are expected")
    return values
