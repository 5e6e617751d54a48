# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of 3D pseudo-labels: ROOT/SCENE/NNNNNN.npz, NNNNNN being the frame's number, made from scans, poses and label images.

A file holds `occupancy` (X, Y, Z) uint8 (1 occupied, 0 free, 255 unknown), `classes` (X, Y, Z) uint8 class ids (255 none) and
`moving` (N,) bool per point of the scan. ROOT/manifest.json names the grid, the taxonomy and the settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from occle_core.atomic_file import write_json, writing_into
from occle_core.config import Config
from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.files import read_json, read_npz, warn_once
from occle_core.datasets.recordings.bag import BagDataset
from occle_core.datasets.recordings.sequence import SequenceDataset
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.data.array_files import write_arrays
from occle_train.data.ray_evidence import RayEvidenceConfig
from occle_train.pseudo_labels.label_folder import MANIFEST, LabelFolder
from occle_train.pseudo_labels.lidar import Moving, accumulated_occupancy
from occle_train.pseudo_labels.lift import lifted_labels, point_labels
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from occle_train.worker_pool import ALONE, Workers, consecutive_parts, mapped

FORMAT = 1


class CellConfig(Config):
    """Settings of 3D pseudo-labels."""

    past_scans: int = Field(10, ge=0, description="scans before the present one that are accumulated")
    future_scans: int = Field(10, ge=0, description="scans after it that are accumulated")
    free_margin: int = Field(1, ge=0, description="how near to an occupied cell no cell is called free, cells along x and y")
    min_range: float = Field(0.0, ge=0, description="points within this horizontal distance of the sensor are the vehicle, metres")
    rays: RayEvidenceConfig = RayEvidenceConfig()


@dataclass(frozen=True, eq=False)
class Cells:
    """3D pseudo-labels of a frame.

    Args:
        occupancy: (X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown.
        classes: (X, Y, Z) uint8 class ids by the votes of points, 255 none.
        moving: (N,) bool, points of the scan that are in motion by ray evidence.
    """

    occupancy: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    moving: NDArray[np.bool_]


class CellFolder:
    """The 3D pseudo-labels of a folder.

    Raises:
        DatasetError: no such folder, or its manifest is broken or of another format.
    """

    def __init__(self, root: Path) -> None:
        if not (root / MANIFEST).is_file():
            raise DatasetError(f"{root} is no folder of 3D labels; make them with occle-train label --cells")
        manifest = read_json(root / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "grid" not in manifest:
            raise DatasetError(f"{root / MANIFEST} is no manifest of 3D labels of format {FORMAT}; use another folder")
        self.root, self.taxonomy = root, str(manifest["taxonomy"])
        grid = manifest["grid"]
        self.grid = VoxelGrid(tuple(grid["origin"]), tuple(grid["shape"]), grid["resolution"])

    def has(self, dataset: Dataset, i: int) -> bool:
        """True if there are labels of frame `i`."""
        return cell_file(self.root, dataset, i).is_file()

    def read(self, dataset: Dataset, i: int) -> Cells:
        """The labels of frame `i`.

        Raises:
            DatasetError: a missing or broken file, or one of another grid.
        """
        file = cell_file(self.root, dataset, i)
        content = read_npz(file)
        if not {"occupancy", "classes", "moving"} <= content.keys() or content["occupancy"].shape != self.grid.shape:
            raise DatasetError(f"{file} holds no 3D labels of the grid in {self.root / MANIFEST}; delete it and label again")
        return Cells(content["occupancy"], content["classes"], content["moving"])


def write_cells(
    root: Path,
    datasets: Sequence[Dataset],
    grid: VoxelGrid,
    labels: LabelFolder | None,
    config: CellConfig,
    on_progress: Callable[[str, int], None] = lambda scene, i: None,
    workers: Workers = ALONE,
    frames: Collection[tuple[int, int]] | None = None,
) -> tuple[int, int]:
    """Make the 3D labels of every frame that has none yet; a stopped run is resumed, and gives the same bytes.

    No file of labels of the data sets is opened: what moves is found by ray evidence.

    Args:
        root: folder of the labels; made if it is not there.
        datasets: sequences with poses. Frames without one are left out, which is logged once.
        grid: the cells around every scan.
        labels: label images whose classes points take and vote for; None gives occupancy alone.
        config: see CellConfig.
        on_progress: called after every frame with scene and number.
        workers: where the work runs; the result does not depend on it.
        frames: numbers of the data set and of the frame of those that are wanted; all if not given.

    Returns:
        how many frames were labelled, and how many had labels.

    Raises:
        DatasetError: `root` holds labels of other settings, or a sequence has no poses.
    """
    _check_manifest(root, datasets[0].taxonomy, grid, labels, config)
    with writing_into(root):
        missing: list[tuple[int, int]] = []
        count = 0
        for number, dataset in enumerate(datasets):
            for i in _placed(dataset):
                if frames is not None and (number, i) not in frames:
                    continue
                count += 1
                if cell_file(root, dataset, i).is_file():
                    on_progress(dataset.name, i)
                else:
                    missing.append((number, i))
        parts = consecutive_parts(missing, workers)

        def name(part: Sequence[tuple[int, int]]) -> str:
            number, i = part[0]
            return f"{datasets[number].name}, frame {datasets[number].numbers[i]}" + (" and after" if len(part) > 1 else "")

        job = CellJob(root, datasets, grid, labels, config)
        with mapped(_write_part, parts, CellWriter, job, workers, name) as results:
            for part, _ in zip(parts, results):
                for number, i in part:
                    on_progress(datasets[number].name, i)
    return len(missing), count - len(missing)


def _placed(dataset: Dataset) -> list[int]:
    """Frames with a pose.

    Raises:
        DatasetError: none has one.
    """
    placed = [i for i in range(len(dataset)) if dataset.pose(i) is not None]
    if not placed:
        raise DatasetError(f"{dataset.kind} {dataset.name} has no poses: scans cannot be accumulated; leave it out")
    if len(placed) < len(dataset):
        warn_once(f"{dataset.name}: {len(dataset) - len(placed)} frames have no pose and get no 3D labels")
    return placed


@dataclass(frozen=True)
class CellJob:
    """What a worker needs to make 3D labels; see `write_cells`."""

    root: Path
    datasets: Sequence[Dataset]
    grid: VoxelGrid
    labels: LabelFolder | None
    config: CellConfig


class CellWriter:
    """Writes 3D labels; frames of a sequence that follow each other share what their neighbours' scans gave.

    Args:
        job: see CellJob.
    """

    def __init__(self, job: CellJob) -> None:
        self.job = job
        self._number = -1
        self._dataset: UnlabelledDataset
        self._votes: Callable[[int], Any] | None = None

    def write(self, number: int, i: int) -> None:
        """Write the labels of a data set's frame."""
        job, config = self.job, self.job.config
        if number != self._number:
            self._number, self._dataset = number, UnlabelledDataset(job.datasets[number], config.rays)
            self._votes = _votes_of(self._dataset, job.labels, config) if job.labels is not None else None
        dataset = self._dataset
        moving: Moving = "remove"
        scans = (config.past_scans, config.future_scans, moving, config.min_range)
        occupancy = accumulated_occupancy(dataset, i, job.grid, *scans, config.free_margin)
        classes = np.full(job.grid.shape, IGNORE, np.uint8)
        if self._votes is not None:
            classes = lifted_labels(dataset, i, job.grid, self._votes, *scans)
        arrays = {"occupancy": occupancy, "classes": classes, "moving": dataset.moving(i)}
        write_arrays(cell_file(job.root, job.datasets[number], i), arrays)


def _write_part(writer: CellWriter, frames: Sequence[tuple[int, int]]) -> None:
    for number, i in frames:
        writer.write(number, i)


def grid_of(datasets: Sequence[Dataset]) -> VoxelGrid | None:
    """The grid of recordings by their rig file; None where it has none, and for other data sets.

    Raises:
        DatasetError: they are of rigs with different grids.
    """
    rigs = [data.rig for data in datasets if isinstance(data, (SequenceDataset, BagDataset))]
    found = {rig.grid.grid if rig.grid else None for rig in rigs}
    if len(found) > 1:
        raise DatasetError(f"{', '.join(data.name for data in datasets)} are of rigs with different grids; name --sequences of one")
    return next(iter(found), None)


def cell_file(root: Path, dataset: Dataset, i: int) -> Path:
    """Path of a frame's 3D labels."""
    return root / dataset.name / f"{dataset.numbers[i]:06d}.npz"


def _votes_of(dataset: Dataset, labels: LabelFolder, config: CellConfig) -> Callable[[int], Any]:
    return lru_cache(config.past_scans + config.future_scans + 2)(lambda i: point_labels(dataset, i, labels))


def _check_manifest(root: Path, classes: Taxonomy, grid: VoxelGrid, labels: LabelFolder | None, config: CellConfig) -> None:
    """Write the manifest, or make sure that it is the same."""
    manifest = {
        "format": FORMAT,
        "taxonomy": classes.name,
        "grid": {"origin": grid.origin, "shape": grid.shape, "resolution": grid.resolution},
        "label_images": labels.source if labels is not None else None,
        "settings": config.model_dump(mode="json"),
    }
    manifest = json.loads(json.dumps(manifest))
    file = root / MANIFEST
    if not file.exists():
        write_json(file, manifest)
    elif read_json(file) != manifest:
        raise DatasetError(f"{file}: these 3D labels were made in another way; use another folder, or delete this one")
