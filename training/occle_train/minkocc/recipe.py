# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc's two steps of supervision (Sze et al., Sec. IV-A): few scenes with voxel labels, then weak targets for all of them.

A frame has *voxel labels* only if it, or its scene, was drawn as labelled; the voxel truth of every other frame is never opened.
Weak targets need no voxel label: 2D pseudo-labels of the images, occupancy accumulated from neighbouring scans, and classes that
these scans' points take from the pixels (`training/occle_train/pseudo_labels/lift.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.base import HasSweeps
from occle_core.datasets.completeness import require_sweeps
from occle_core.datasets.files import warn_once
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.taxonomy import Taxonomy
from occle_train.data.array_files import cached_arrays
from occle_train.data.label_split import LabelSplit
from occle_train.data.samples import SOLID, Sample, Samples, TargetKind, View
from occle_train.data.truth import MaskName
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED, UNKNOWN, Moving, MovingBoxDataset, accumulated_occupancy
from occle_train.pseudo_labels.lift import PointLabels, lifted_labels, point_labels
from occle_train.pseudo_labels.unlabelled import SweptUnlabelledDataset, UnlabelledDataset

COUNTED = 500
"""Frames whose pseudo-labels are counted for the classes' weights."""


class RecipeSamples(Samples):
    """All frames of a data set: those of the drawn scenes with voxel labels, the others with weak targets only.

    Args:
        datasets: scenes, in order.
        grid: the grid of the targets.
        network: what images and points are reduced to.
        config: see MinkOccRecipeConfig.
        labels: 2D pseudo-labels; None where the recipe ends with the warm start and needs none.
        cache: folder in which weak targets are kept; it is made, and may be deleted at any time.
        memory, mask: see Samples.

    Raises:
        DatasetError: a labelled scene has no voxel truth, or labels are missing.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        grid: VoxelGrid,
        network: MinkOccConfig,
        config: MinkOccRecipeConfig,
        labels: LabelFolder | None,
        cache: Path,
        memory: float = 4.0,
        mask: MaskName = "camera",
    ) -> None:
        self.config = config
        self._split = LabelSplit.draw(datasets, config.label_unit, config.alpha, config.label_seed, config.mixed)
        self.drawn = self._split.drawn
        self.labels: LabelFolder | None = labels
        classes = datasets[0].taxonomy if datasets else None
        self.cache = cache / _cache_key(grid, network, config, labels, classes)
        self._scans = cache / _cache_key(grid, network, config.model_copy(update={"moving_points": "rays"}), None, classes)
        self._unlabelled: dict[int, UnlabelledDataset] = {}
        super().__init__(datasets, grid, network, memory, mask)
        self._require_sweeps()
        if config.moving_points == "carry" and config.switch_step(100) < 100:
            # Tables of boxes are read before loader processes are forked, which then share them.
            for dataset in datasets:
                if isinstance(dataset, MovingBoxDataset) and len(dataset):
                    dataset.boxes(0)

    def _find(self) -> tuple[list[tuple[int, int]], Sequence[int]]:
        """Labelled frames are those that were drawn, or of a drawn scene, and have a truth; others of a drawn scene are left out.

        So are frames that will have weak targets and have no pose: nothing can be accumulated around them.
        """
        index: list[tuple[int, int]] = []
        warm: list[int] = []
        for number, data in enumerate(self.datasets):
            labelled, is_drawn = self._split.labelled(number), self._split.is_drawn_scene(number)
            if is_drawn and not labelled:
                raise DatasetError(f"no frame of the labelled scenes {data.name} has voxel truth; take them out of the data")
            frames = [i for i in range(len(data)) if not is_drawn or i in labelled]
            if self.config.switch_step(100) < 100 or self.config.pretraining_fraction:
                kept = labelled if self.config.keep_voxel_labels and not self.config.pretraining_fraction else set()
                placed = [i for i in frames if i in kept or data.pose(i) is not None]
                if frames and not placed:
                    raise DatasetError(f"{data.kind} {data.name} has no poses: scans cannot be accumulated; leave it out")
                if len(placed) < len(frames):
                    warn_once(f"{data.name}: {len(frames) - len(placed)} frames have no pose and are left out")
                frames = placed
            warm += [len(index) + place for place, i in enumerate(frames) if i in labelled]
            index += [(number, i) for i in frames]
        if not index:
            raise DatasetError("there is no frame to train on; simulate some with occle-train simulate")
        if not warm and self.config.alpha:
            raise DatasetError(
                f"none of the {len(index)} frames has voxel truth, which a training begins with: add a data set that has "
                "(occle-train simulate), or learn from scans and label images alone with --set recipe.alpha=0"
            )
        if self.config.mixed and len(warm) < len(index):
            labelled = set(warm)
            self.weak = [item for item in range(len(index)) if item not in labelled]
        return index, warm

    def _require_sweeps(self) -> None:
        """Make sure before the training that scans between frames are there, as far as targets are still to be made."""
        config, needed = self.config, set[tuple[int, int]]()
        if not config.sweeps or (config.switch_step(100) == 100 and not config.pretraining_fraction):
            return
        for item in range(len(self)) if config.pretraining_fraction else self.weak_items():
            if config.pretraining_fraction or not self.target_file(item).is_file():
                number, i = self.index[item]
                last = min(i + config.future_scans, len(self.datasets[number]) - 1)
                needed |= {(number, k) for k in range(max(i - config.past_scans, 0), last + 1)}
        try:
            require_sweeps(((self.datasets[number], k) for number, k in sorted(needed)), config.sweeps)
        except DatasetError as error:
            raise DatasetError(f"recipe.sweeps {config.sweeps}: {error}; or take recipe.sweeps: 0") from error

    def sample(self, item: int, kind: TargetKind = "labels") -> Sample:
        """A frame with voxel labels if its scene is labelled (and, in the weak phase, keeps them), else with weak targets.

        Views are given in the weak phase alone, and only where some are rendered. Of "scans" the target is the occupancy that scans
        and rays show, as if nobody had labelled the frame.
        """
        if kind == "scans":
            scans: NDArray[np.uint8] = self._memory.get(("scans", item), lambda: self._scan_target(item))
            return Sample(self.frame(item), scans, labelled=False)
        weak = kind == "weak"
        labelled = item in self._warm_set and (self.config.keep_voxel_labels or not weak)
        if not labelled and not weak:
            raise ValueError(f"frame {item} has no voxel labels and takes no part in the warm start")
        frame, target = self.frame(item), self.truth(item) if labelled else self.weak_target(item)
        rendered = weak and self.config.num_views and not (labelled and self.config.mixed)
        views = self.views(item, frame.cameras) if rendered else ()
        evidence = self.weak_target(item) if weak and labelled and self._calibrates(item) else None
        return Sample(frame, target, labelled, views, self.pixels(item), evidence)

    def truth(self, item: int) -> NDArray[np.uint8]:
        """The voxel labels of a labelled frame.

        Raises:
            ValueError: the frame is not labelled; its truth stays unopened.
        """
        if item not in self._warm_set:
            raise ValueError(f"frame {item} was not drawn as labelled: its voxel labels must not be used")
        return super().truth(item)

    def weak_target(self, item: int) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 from scans: free's id, SOLID where occupied, 255 unknown; with `lift_weight` the pixels' classes."""
        held: NDArray[np.uint8] = self._memory.get(("weak", item), lambda: self._weak_target(item))
        return held

    def weak_items(self) -> list[int]:
        """Frames that the weak phase gives weak targets."""
        kept = self._warm_set if self.config.keep_voxel_labels else frozenset()
        return [item for item in range(len(self)) if item not in kept]

    def target_file(self, item: int) -> Path:
        """Where a frame's weak target is kept."""
        return self.cache / f"{self._name(*self.index[item])}.npz"

    def views(self, item: int, cameras: Sequence[Camera]) -> tuple[View, ...]:
        """The pseudo-labels of a frame, whose cameras are given, as far as there are any."""
        held: tuple[View, ...] = self._memory.get(("views", item), lambda: self._views(item, cameras))
        return held

    def pixel_counts(self, num_classes: int) -> NDArray[np.int64]:
        """(num_classes,) pixels per class in the pseudo-labels of at most `COUNTED` frames, evenly drawn."""
        if self.labels is None:
            return super().pixel_counts(num_classes)
        counts = np.zeros(256, np.int64)
        items = range(len(self)) if self.weak is None else self.weak
        for place in np.unique(np.linspace(0, len(items) - 1, COUNTED).round().astype(int)).tolist():
            item = items[place]
            for view in self.views(item, self.frame(item).cameras):
                counts += np.bincount(view.labels.ravel(), minlength=256)
        return counts[:num_classes]

    def provenance(self) -> dict[str, Any]:
        """The labels that were used, for the bundle's provenance."""
        return {
            "voxel_labels": {
                "alpha": self.config.alpha,
                "seed": self.config.label_seed,
                "scenes" if self.config.label_unit == "scene" else "which": sorted(self.drawn),
                "frames": len(self.warm),
            },
            "pseudo_labels": self.labels.source if self.labels else None,
            **({"pixels": self.pixel_source} if self.pixel_source else {}),
            "accumulation": self.config.model_dump(
                include={"past_scans", "sweeps", "future_scans", "free_margin", "moving_points", "lift_weight"}
            ),
        }

    def _calibrates(self, item: int) -> bool:
        """Whether a teacher is calibrated by the frame: its scans can be accumulated."""
        number, i = self.index[item]
        return self.config.self_training is not None and self.datasets[number].pose(i) is not None

    def _views(self, item: int, cameras: Sequence[Camera]) -> tuple[View, ...]:
        number, i = self.index[item]
        if self.labels is None and self.config.mixed:
            return ()
        labels = self._label_folder()
        dataset, size = self.datasets[number], (self.config.view_width, self.config.view_height)
        found = []
        for name, camera in zip(dataset.camera_names, cameras):
            if labels.has(dataset, i, name):
                found.append(View(camera.resized(*size), *labels.read(dataset, i, name, size)))
        if not found and any(dataset.image_file(i, name) for name in dataset.camera_names):
            raise DatasetError(f"{labels.root} has no labels of {dataset.name}, frame {i}; make them with occle-train label")
        return tuple(found)

    def _weak_target(self, item: int) -> NDArray[np.uint8]:
        number, i = self.index[item]
        dataset, config = self.datasets[number], self.config
        moving: Moving = "remove"
        if config.moving_points == "rays":
            dataset = self._as_unlabelled(number)
        else:
            moving = config.moving_points
        scans = (config.past_scans, config.future_scans, moving, self.network.points.min_range)

        def target() -> dict[str, NDArray[Any]]:
            cells = self._accumulated(dataset, i, moving)
            if config.lift_weight and (self.labels is not None or not config.mixed):
                lifted = lifted_labels(dataset, i, self.grid, lambda scan: self._point_labels(number, scan), *scans)
                cells = np.where(lifted != UNKNOWN, lifted, cells)
            return {"target": cells}

        return cached_arrays(self.target_file(item), target)["target"]

    def _scan_target(self, item: int) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 as `weak_target`, of the same scans, without classes; rays say what moves, boxes do not."""
        number, i = self.index[item]

        def target() -> dict[str, NDArray[Any]]:
            return {"target": self._accumulated(self._as_unlabelled(number), i, "remove")}

        return cached_arrays(self._scans / f"{self._name(number, i)}.npz", target)["target"]

    def _accumulated(self, dataset: Dataset, i: int, moving: Moving) -> NDArray[np.uint8]:
        config, min_range = self.config, self.network.points.min_range
        scans = (config.past_scans, config.future_scans, moving, min_range, config.free_margin, config.sweeps)
        codes = np.full(256, UNKNOWN, np.uint8)
        codes[[FREE, OCCUPIED]] = dataset.taxonomy.free, SOLID
        return np.asarray(codes[accumulated_occupancy(dataset, i, self.grid, *scans)])

    def _as_unlabelled(self, number: int) -> UnlabelledDataset:
        if number not in self._unlabelled:
            dataset = self.datasets[number]
            if self.config.sweeps and isinstance(dataset, HasSweeps):
                self._unlabelled[number] = SweptUnlabelledDataset(dataset, dataset)
            else:
                self._unlabelled[number] = UnlabelledDataset(dataset)
        return self._unlabelled[number]

    def _point_labels(self, number: int, i: int) -> PointLabels:
        """Of a scan, which is a neighbour of many frames."""
        dataset, labels = self.datasets[number], self._label_folder()

        def made() -> dict[str, NDArray[Any]]:
            return dict(zip(("labels", "confidence"), point_labels(dataset, i, labels)))

        content = cached_arrays(self.cache / f"{self._name(number, i)}-points.npz", made)
        return content["labels"], content["confidence"]

    def _label_folder(self) -> LabelFolder:
        if self.labels is None:
            raise DatasetError("steps after the warm start need 2D labels: make them with occle-train label, and give --labels DIR")
        return self.labels

    def _name(self, number: int, i: int) -> str:
        """A frame's name in the cache: stamps may repeat, and another data set may have the same scenes."""
        dataset = self.datasets[number]
        origin = hashlib.sha256(str(dataset.files(i)[0].resolve()).encode()).hexdigest()[:8]
        return f"{dataset.name}/{dataset.numbers[i]:06d}-{origin}"


def _cache_key(
    grid: VoxelGrid, network: MinkOccConfig, config: MinkOccRecipeConfig, labels: LabelFolder | None, classes: Taxonomy | None
) -> str:
    content = (
        f"{grid} {network.points.min_range} {config.past_scans} {config.future_scans} {config.free_margin} {config.moving_points}"
    )
    if config.sweeps:
        content += f" {config.sweeps} sweeps"
    if config.lift_weight and labels is not None:
        content += f" {labels.root.resolve()} {labels.source}"
    if classes is not None:
        content += f" {classes.names} {classes.free}"  # what the ids in the targets mean
    return hashlib.sha256(content.encode()).hexdigest()[:12]
