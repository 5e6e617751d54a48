# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Reader of occle sequences: frames of any rig with poses, as `occle-train prepare` and `simulate --rig` write them.

docs/reference/sequence_layout.md documents the layout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import COPY_AGAIN, read_image, readable, warn_once
from occle_core.datasets.poses import rigid_transform
from occle_core.datasets.recordings.sequence_checks import REFERENCE, check_array, frames_in_order, listed_frames
from occle_core.datasets.voxels import resample
from occle_core.frame import Frame, RayOrigins
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.rig import Rig, RigError, read_rig
from occle_core.rig.files import RIG_FILE
from occle_core.sensors.camera_info import Lens, lens_from_rig

LAYOUT = "occle sequence: FOLDER/{sequence.json, rig.yaml, shards/NNNNN/{frames.json, points/*.npz, CAMERA/*.{jpg,png}}}"
HEAD = "sequence.json"
FORMAT, VERSION = "occle-sequence", 1


def scenes(path: Path) -> dict[str, Path]:
    """The sequences at `path`: itself, or its sub-folders."""
    if (path / HEAD).is_file():
        return {path.resolve().name: path}
    return {file.parent.name: file.parent for file in sorted(path.glob(f"*/{HEAD}"))}


class SequenceDataset:
    """A sequence. See `occle_core.datasets.Dataset`.

    Raises:
        DatasetError: a file is missing or damaged, of a later version, or the rig has no pose of a sensor.
    """

    kind = "occle"

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder
        head = read_json(folder / HEAD)
        if head.get("format") != FORMAT or head.get("version") != VERSION:
            raise DatasetError(
                f"{folder / HEAD} is {head.get('format')} of version {head.get('version')}; known is {FORMAT} {VERSION}"
            )
        try:
            self.rig: Rig = read_rig(folder / RIG_FILE)
            classes = head.get("classes", "semantickitti")
            listed = classes if isinstance(classes, str) else taxonomy.TaxonomyConfig.model_validate(classes)
            self.taxonomy = self._listed = taxonomy.load(listed).for_class_ids()
        except (RigError, KeyError, ValueError) as error:
            raise DatasetError(f"{folder}: {error}") from error
        self.camera_names = tuple(self.rig.cameras)
        self.lidar_frame = self.rig.lead.frame or "lidar"
        self.grid_frame = self.rig.base_frame
        self._lenses, self._T_camera_base = self._calibrated()
        self._shards = sorted(folder.glob("shards/*/frames.json"))
        frames = [(file, frame) for file in self._shards for frame in listed_frames(file, read_json(file))]
        self._frames = [(file.parent, frame) for file, frame in frames_in_order(frames)]
        source = head.get("source")
        planned = source.get("shards", 0) if isinstance(source, dict) else 0
        if isinstance(planned, int) and planned > len(self._shards):
            warn_once(
                f"{folder}: {len(self._shards)} of {planned} shards are there; `occle-train prepare` once more writes the rest"
            )
        if not self._frames:
            raise DatasetError(f"{folder} has no frames" + ("" if self._shards else " yet: shards/ is empty"))
        self.numbers = [frame["number"] for _, frame in self._frames]
        self.stamps = [frame["stamp"] for _, frame in self._frames]

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def T_grid_lidar(self) -> NDArray[np.float64]:
        """(4, 4), the leading LiDAR's pose in the base frame."""
        T = self.rig.lead.T_base_lidar
        return np.eye(4) if T is None else T

    def frame(self, i: int) -> Frame:
        """Points of all LiDARs in the leading one's frame, and rectified images."""
        shard, _ = self._frames[i]
        T_base_lidar, images, cameras = self.T_grid_lidar, [], []
        for name, lens, T_camera_base in zip(self.camera_names, self._lenses, self._T_camera_base):
            file = self.image_file(i, name)
            image = read_image(file) if file else None
            if image is not None and image.shape[:2] != (lens.height, lens.width):
                size = f"{image.shape[1]} x {image.shape[0]}"
                raise DatasetError(f"{file} is {size}, {RIG_FILE} of {shard.parents[1]} says {lens.width} x {lens.height}")
            images.append(None if image is None else lens.rectify(image, str(file)))
            cameras.append(lens.camera(T_camera_base @ T_base_lidar, own_frame=True))
        return Frame(self.stamps[i], self.points(i), images, cameras, T_base_lidar, self.pose(i), origins=self.origins(i))

    def camera(self, name: str) -> Camera:
        """The pinhole camera of a camera's rectified images."""
        number = self.camera_names.index(name)
        return self._lenses[number].camera(self._T_camera_base[number] @ self.T_grid_lidar, own_frame=True)

    def files(self, i: int) -> list[Path]:
        """The points' file and the images'."""
        images = (self.image_file(i, name) for name in self.camera_names)
        return [self._file(i, "points", "npz"), *(file for file in images if file)]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of frame `i`, in the leading LiDAR's frame."""
        file = self._file(i, "points", "npz")
        data = self._arrays(file, ("xyz", "scale", "intensity"))
        count = len(data["xyz"]) if data["xyz"].ndim else 0
        check_array(file, data, "xyz", "iu", (count, 3))
        check_array(file, data, "intensity", "u1", (count,))
        points = np.empty((count, 4), np.float32)
        points[:, :3] = data["xyz"] * np.float32(data["scale"])
        points[:, 3] = data["intensity"] * np.float32(1 / 255)
        return points

    def point_sources(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Of each row of `points`: number of its LiDAR in the rig (N,), and its time from the frame's stamp (N,), seconds."""
        file = self._file(i, "points", "npz")
        data = self._arrays(file, ("xyz", "sensor", "time"))
        check_array(file, data, "sensor", "iu", data["xyz"].shape[:1])
        check_array(file, data, "time", "f", data["xyz"].shape[:1])
        if data["sensor"].size and not 0 <= int(data["sensor"].min()) <= int(data["sensor"].max()) < len(self.rig.lidars):
            raise DatasetError(f"{file}: sensor is up to {data['sensor'].max()}, but {RIG_FILE} has {len(self.rig.lidars)} LiDARs")
        return data["sensor"].astype(np.uint8), data["time"].astype(np.float32)

    def origins(self, i: int) -> RayOrigins | None:
        """Where the rays begin, for the rows of `points`; None with one LiDAR."""
        positions = self.rig.lidar_positions
        return RayOrigins(positions, self.point_sources(i)[0]) if len(positions) > 1 else None

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """T_world_lidar (4, 4) of frame `i`, or None where it was not known."""
        T = self._frames[i][1].get("T_world_base")
        if T is None:
            return None
        where = f"{self._frames[i][0] / 'frames.json'}: T_world_base of frame {self.numbers[i]}"
        return rigid_transform(T, where) @ self.T_grid_lidar

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """(N,) class ids, or None."""
        data = self._labels(i, "classes", "iu")
        return None if data is None else self.taxonomy.points_from_raw(self._ids(self._file(i, "labels", "npz"), data))

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """(N,) bool, or None."""
        data = self._labels(i, "moving", "biu")
        return None if data is None else data.astype(np.bool_)

    def has_truth(self, i: int) -> bool:
        """True if voxels/NNNNNN.npz exists."""
        return self._file(i, "voxels", "npz").is_file()

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """voxels/NNNNNN.npz on `grid`."""
        data = self._voxels(i)
        if data is None or self.rig.grid is None:
            return None
        ids = self._ids(self._file(i, "voxels", "npz"), data["classes"])
        return resample(self.taxonomy.from_raw(ids), self.rig.grid.grid, grid, self.taxonomy)

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """Masks "camera" and "lidar" of cells that the sensors see, where they are recorded."""
        data = self._voxels(i)
        if data is None:
            return {}
        return {name: data[name].astype(np.bool_) for name in ("camera", "lidar") if name in data}

    def image_file(self, i: int, camera: str) -> Path | None:
        """The recorded image, as distorted as the lens made it; None where the frame has none."""
        shard, frame = self._frames[i]
        entry = frame.get("images", {}).get(camera)
        return shard / entry["file"] if entry else None

    def image_stamp(self, i: int, camera: str) -> int:
        """The image's stamp."""
        entry = self._frames[i][1].get("images", {}).get(camera)
        return int(entry["stamp"]) if entry else self.stamps[i]

    def _calibrated(self) -> tuple[list[Lens], list[NDArray[np.float64]]]:
        lenses, poses = [], []
        for name, camera in self.rig.cameras.items():
            T = camera.T_base_camera
            if T is None or camera.lens is None or camera.width is None or camera.height is None:
                raise DatasetError(f"{self.folder / RIG_FILE}: cameras.{name} has no pose or no lens with width and height")
            lenses.append(lens_from_rig(camera.lens, camera.width, camera.height, name))
            poses.append(np.asarray(np.linalg.inv(T), np.float64))
        return lenses, poses

    def _file(self, i: int, folder: str, suffix: str) -> Path:
        shard, frame = self._frames[i]
        return shard / folder / f"{int(frame['number']):06d}.{suffix}"

    def _optional(self, i: int, folder: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]] | None:
        file = self._file(i, folder, "npz")
        return self._arrays(file, names) if file.is_file() else None

    def _labels(self, i: int, name: str, kinds: str) -> NDArray[Any] | None:
        """(N,) an array of labels/NNNNNN.npz, a number for each point; None without the file."""
        data = self._optional(i, "labels", (name,))
        if data is None:
            return None
        scan = self._file(i, "points", "npz")
        count = self._arrays(scan, ("xyz",))["xyz"].shape[:1]
        return check_array(self._file(i, "labels", "npz"), data, name, kinds, count, f", as {scan} has")

    def _voxels(self, i: int) -> dict[str, NDArray[Any]] | None:
        data = self._optional(i, "voxels", ("classes",))
        if data is None:
            return None
        file = self._file(i, "voxels", "npz")
        if self.rig.grid is None:
            raise DatasetError(f"{self.folder / RIG_FILE} has no grid, so nobody knows where the cells of {file} lie; add grid:")
        for name, kinds in (("classes", "iu"), ("camera", "biu"), ("lidar", "biu")):
            if name in data:
                check_array(file, data, name, kinds, self.rig.grid.grid.shape, f", as the grid of {RIG_FILE} is")
        return data

    def _ids(self, file: Path, ids: NDArray[Any]) -> NDArray[Any]:
        """Class ids of a file, all of which the sequence's class list has."""
        strange = np.unique(ids[(ids != self._listed.ignore) & ((ids < 0) | (ids >= self._listed.num_classes))])
        if strange.size:
            raise DatasetError(
                f"{file}: classes holds {strange[:10].tolist()}, but the ids of {self._listed.name} are 0 to "
                f"{self._listed.num_classes - 1}, and 255 is unknown ({REFERENCE})"
            )
        return ids

    def _arrays(self, file: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        with readable(file):
            try:
                with np.load(file, allow_pickle=False) as found:
                    data = {name: found[name] for name in found.files}
            except OSError:
                raise
            except Exception as error:  # zipfile and numpy let through whatever the bytes provoke
                raise DatasetError(f"{file} is damaged: {' '.join(str(error).split())[:120]}; {COPY_AGAIN}") from error
        if lacking := [name for name in names if name not in data]:
            raise DatasetError(f"{file} has no array {lacking[0]}; it has {', '.join(data)}")
        return data


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file with an object.

    Raises:
        DatasetError: missing or damaged.
    """
    with readable(file):
        try:
            content = json.loads(file.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{file} is no JSON: {error}; {COPY_AGAIN}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{file} holds no JSON object; {COPY_AGAIN}")
    return content
