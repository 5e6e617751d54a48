# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames of dataset folders as a recipe's training set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset, DatasetError, list_scenes, open_dataset
from occle_core.datasets.completeness import require_frames
from occle_core.datasets.recordings import bag
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.history import scans_before
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.inputs import with_sweeps
from occle_core.taxonomy import IGNORE, Taxonomy, TaxonomyConfig
from occle_train.data.truth import MASKS, MaskName, sensor_mask, voxel_truth

SOLID = 254
"""Marks cells of a weak target that are occupied by an unknown class."""


@dataclass(frozen=True, eq=False)
class View:
    """Labels of an image.

    Args:
        camera: at the labels' size; maps from the LiDAR frame.
        labels: (H, W) uint8 class ids, 255 unlabelled.
        confidence: (H, W) float32 in 0..1.
    """

    camera: Camera
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sample:
    """A frame with what is known about it.

    Args:
        frame: reduced to what the network reads.
        target: (X, Y, Z) uint8 class ids, free's among them; SOLID is occupied by an unknown class, 255 unknown.
        labelled: whether the target holds voxel labels; otherwise it is a weak one.
        views: 2D pseudo-labels of its cameras.
        pixels: labels of its images as the image branch sees them, one per camera; None where there are none.
        evidence: the weak target of a labelled frame, where a teacher is calibrated by comparing the two.
    """

    frame: Frame
    target: NDArray[np.uint8]
    labelled: bool = True
    views: tuple[View, ...] = ()
    pixels: tuple[View | None, ...] = ()
    evidence: NDArray[np.uint8] | None = None


TargetKind = Literal["scans", "labels", "weak"]
"""What a step's frames have as targets: accumulated scans alone, voxel labels, or weak targets beside them."""
PixelReader = Callable[[Dataset, int, str, tuple[int, int]], "tuple[NDArray[np.uint8], NDArray[np.float32]] | None"]
"""Reads the labels of a data set's frame and camera at (width, height): as in View; None where there are none."""


class FrameCache:
    """Keeps what was read, up to a number of bytes; what comes later is read each time.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._held: dict[Any, Any] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The cached value of a key, made by `make` where it is missing: an array, a Frame or None."""
        if key in self._held:
            return self._held[key]
        value = make()
        size = _size(value)
        if size <= self._left:
            self._left -= size
            self._held[key] = value
        return value


class Samples:
    """Frames with voxel truth.

    Args:
        datasets: sequences or scenes, in order.
        grid: the grid of the truth.
        network: what images and points are reduced to.
        memory: how much of what was read stays in memory, GiB.
        mask: whose sight makes a cell of a truth count, where the data set says what its sensors saw (Occ3D).

    Raises:
        DatasetError: no frame has voxel truth, or files of the frames are missing.
    """

    labels: Any = None
    """Folder of 2D pseudo-labels, where some are used."""
    weak: Sequence[int] | None = None
    """Frames of the weak phase that are not drawn for their voxel labels; None for all."""
    pixel_size: tuple[int, int] | None = None
    """(width, height) of the pixels' labels; None where none are read."""
    pixel_source = ""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        grid: VoxelGrid,
        network: MinkOccConfig,
        memory: float = 4.0,
        mask: MaskName = "camera",
    ) -> None:
        self.datasets = list(datasets)
        self.grid = grid
        self.network = network
        self._mask = MASKS[mask]
        self.index, self.warm = self._find()
        require_frames((self.datasets[number], i) for number, i in self.index)
        self._warm_set = frozenset(self.warm)
        self._memory = FrameCache(round(memory * 2**30))

    def __len__(self) -> int:
        return len(self.index)

    def labelled(self) -> Sequence[int]:
        """Numbers of the frames whose voxel labels are used."""
        return self.warm

    def provenance(self) -> Any:
        """The labels that are used, for the bundle's provenance."""
        return "voxel truth of every frame" + (f"; pixels: {self.pixel_source}" if self.pixel_source else "")

    def _find(self) -> tuple[list[tuple[int, int]], Sequence[int]]:
        """(dataset, frame) of every frame, and the numbers of those with voxel labels."""
        index = [(number, i) for number, data in enumerate(self.datasets) for i in range(len(data)) if data.has_truth(i)]
        if not index:
            names = ", ".join(dataset.name for dataset in self.datasets) or "no dataset"
            raise DatasetError(f"no frame of {names} has voxel truth; simulate some with occle-train simulate")
        return index, range(len(index))

    def sample(self, item: int, kind: TargetKind = "labels") -> Sample:
        """The frame and its labels; there is no weak supervision."""
        return Sample(self.frame(item), self.truth(item), pixels=self.pixels(item))

    def read_pixels(self, reader: PixelReader, size: tuple[int, int], source: str) -> None:
        """Give samples the labels of their images' pixels from now on, at (width, height); `source` says in words what they are."""
        self._pixel_reader, self.pixel_size, self.pixel_source = reader, size, source

    def pixels(self, item: int) -> tuple[View | None, ...]:
        """Labels of a frame's images, one per camera; () where none are read."""
        if self.pixel_size is None:
            return ()
        held: tuple[View | None, ...] = self._memory.get(("pixels", item), lambda: self._pixels(item))
        return held

    def frame(self, item: int) -> Frame:
        """Images at the network's size, and only the points that fall into the grid: what `prepare` would do in every epoch."""
        number, i = self.index[item]
        held: Frame = self._memory.get(("frame", item), lambda: self._reduced(self._read(self.datasets[number], i)))
        return held

    def truth(self, item: int) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 labels; cells that the mask leaves out are unknown."""
        held: NDArray[np.uint8] = self._memory.get(("truth", item), lambda: self._truth(item))
        return held

    def describe(self, item: int) -> str:
        """A frame in words, for messages."""
        number, i = self.index[item]
        return f"sequence {self.datasets[number].name}, frame {self.datasets[number].numbers[i]}"

    def class_counts(self, num_classes: int) -> NDArray[np.int64]:
        """(num_classes,) known voxels per class over all frames."""
        counts = np.zeros(256, np.int64)
        for item in self.warm:
            counts += np.bincount(self.truth(item).ravel(), minlength=256)
        return counts[:num_classes]

    def pixel_counts(self, num_classes: int) -> NDArray[np.int64]:
        """(num_classes,) pixels per class in 2D pseudo-labels, of which there are none."""
        return np.zeros(num_classes, np.int64)

    def _pixels(self, item: int) -> tuple[View | None, ...]:
        assert self.pixel_size is not None
        number, i = self.index[item]
        dataset, size, found = self.datasets[number], self.pixel_size, []
        for name, camera in zip(dataset.camera_names, self.frame(item).cameras):
            labels = self._pixel_reader(dataset, i, name, size)
            found.append(None if labels is None else View(camera.resized(*size), *labels))
        return tuple(found)

    def _truth(self, item: int) -> NDArray[np.uint8]:
        number, i = self.index[item]
        dataset = self.datasets[number]
        truth = voxel_truth(dataset, i, self.grid)
        if truth is None:
            raise DatasetError(f"{dataset.name}: the voxel truth of frame {i} is gone since the sequence was opened")
        seen = sensor_mask(dataset, i, self.grid, self._mask)
        return truth if seen is None else np.where(seen, truth, IGNORE).astype(np.uint8)

    def _read(self, dataset: Dataset, i: int) -> Frame:
        """A frame as the network reads it."""
        return read_frame(dataset, i, self.network)

    def _reduced(self, frame: Frame) -> Frame:
        size = (self.network.image.width, self.network.image.height)
        images = [None if image is None else resized(image, size) for image in frame.images]
        cameras = [camera.resized(*size) for camera in frame.cameras]
        in_grid = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
        inside = self.grid.index(in_grid)[1]
        ages = None if frame.ages is None else frame.ages[inside]
        return replace(frame, points=frame.points[inside], images=images, cameras=cameras, ages=ages, origins=None)


def read_frame(dataset: Dataset, i: int, network: MinkOccConfig) -> Frame:
    """A frame, with the points of the scans before it where the network reads them.

    Raises:
        FrameError: a scan that is read with others is malformed.
    """
    if not network.reads_sweeps:
        return dataset.frame(i)
    return with_sweeps(scans_before(dataset, i, network.num_frames), network)


def open_all(
    path: Path, names: Sequence[str] | None = None, classes: Taxonomy | None = None, rig: Path | None = None
) -> list[Dataset]:
    """Every sequence or scene below `path`, or the named ones; with a class list of your own, labelled by that.

    Args:
        path: a data set, or a bag.
        names: of the wanted sequences; none for all.
        classes: class list of your own.
        rig: rig file, where `path` is a bag; None: the one beside it.

    Raises:
        DatasetError: nothing is there, or a name is unknown.
    """
    found = list_scenes(path)
    unknown = sorted(set(names or ()) - set(found))
    if unknown:
        raise DatasetError(f"{path} has no sequence {', '.join(unknown)}; it has {', '.join(found)}")
    of_bag = rig if rig is not None and bag.scenes(path) else None
    return [open_dataset(path, scene=name, classes=classes, rig=of_bag) for name in (names or found)]


def open_sets(
    paths: Sequence[Path], names: Sequence[str] = (), classes: Taxonomy | None = None, rig: Path | None = None
) -> dict[Path, list[Dataset]]:
    """The sequences of several data sets, by their folders; a name may be of any of them.

    Args:
        paths: folders, each once.
        names: of the wanted sequences; none for all.
        classes: class list of your own.
        rig: rig file of those that are bags.

    Raises:
        DatasetError: nothing is at a path, one comes twice, a name is unknown, or none is of one of several data sets.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise DatasetError(f"--data names a folder twice: {', '.join(map(str, paths))}")
    if len(paths) == 1:
        return {paths[0]: open_all(paths[0], names, classes, rig)}
    scenes = {path: list_scenes(path) for path in paths}
    if unknown := sorted(set(names) - {name for found in scenes.values() for name in found}):
        raise DatasetError(f"{', '.join(map(str, paths))} have no sequence {', '.join(unknown)}")
    named = {path: [name for name in names if name in found] for path, found in scenes.items()}
    if names and (without := [str(path) for path, wanted in named.items() if not wanted]):
        raise DatasetError(f"--sequences names no sequence of {without[0]}; add some, or leave out --data {without[0]}")
    return {path: open_all(path, named[path], classes, rig) for path in paths}


def listed_taxonomy(spec: BundleSpec) -> Taxonomy | None:
    """The class list that a bundle holds, by which raw ids of data are read; None for a shipped one, which the layout names."""
    return taxonomy.load(spec.taxonomy) if isinstance(spec.taxonomy, TaxonomyConfig) else None


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, 3) at (width, height), as `prepare` resizes it."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _size(value: Any) -> int:
    if isinstance(value, Frame):
        return value.points.nbytes + sum(image.nbytes for image in value.images if image is not None)
    if isinstance(value, View):
        return value.labels.nbytes + value.confidence.nbytes
    return sum(map(_size, value)) if isinstance(value, tuple) else getattr(value, "nbytes", 0)
