# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""3D labels without people, against those of people: `python -m benchmark.training.ray_evidence --labels out/espnet_labels`.

Real sequences and simulated streets. What is found without labels (points in motion by ray evidence, cells carved by rays, classes
that points take from label images) is compared with point labels and, on simulated streets, with exact voxels. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from occle_train.data.accumulate import crossed_cells
from occle_train.data.samples import open_all
from occle_train.data.truth import accumulated, voxel_truth
from occle_train.evaluation.markdown_tables import markdown, percent
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED, carved, neighbours
from occle_train.pseudo_labels.lift import lifted_labels, point_labels
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from occle_train.streets import simulate

from benchmark.machine import machine, real_data
from occle_core.bundle import rig_spec
from occle_core.datasets import Dataset
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE

SCANS = 10
"""Before and after a frame that are accumulated."""
Occupancy = NDArray[np.uint8]


def main() -> int:
    """Simulate, carve, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.ray_evidence", description=__doc__)
    parser.add_argument("--data", type=Path, default=real_data() / "semantickitti" / "dataset", help="default: OCCLE_DATA's")
    parser.add_argument("--sequences", default="00,05,07")
    parser.add_argument("--labels", type=Path, help="label images of the real sequences (benchmark.training.espnet_labels)")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where streets are simulated")
    parser.add_argument("--every", type=int, default=5, help="frames between those whose cells are looked at")
    given = parser.parse_args()
    streets = given.out / "ray_streets"
    if not streets.exists():
        simulate(streets, "kitti", 6, 10, 9100, 0.3, 1)
    real, simulated = open_all(given.data, given.sequences.split(",")), open_all(streets)
    print(f"{machine(1)}\n")
    print(_moving_table({"real": real, "simulated": simulated}), "\n")
    print(_cell_table({"real": real, "simulated": simulated}, given.every), "\n")
    if given.labels:
        print(_class_table(real, LabelFolder(given.labels, real[0].taxonomy), given.every))
    return 0


def _moving_table(groups: dict[str, Sequence[Dataset]]) -> str:
    rows = []
    for name, datasets in groups.items():
        for dataset in datasets:
            counts = np.zeros(4, np.int64)
            unlabelled = UnlabelledDataset(dataset)
            for i in range(len(dataset)):
                found, moving, labels = unlabelled.moving(i), dataset.moving(i), dataset.point_labels(i)
                assert moving is not None and labels is not None
                known = moving | (labels != IGNORE)
                counts += [moving.sum(), (found & moving).sum(), (found & known).sum(), known.sum()]
            share = f"{100 * counts[0] / counts[3]:.2f}"
            recall, precision = counts[1] / max(counts[0], 1), counts[1] / max(counts[2], 1)
            rows.append([f"{name} {dataset.name}", str(counts[0]), share, percent(recall), percent(precision)])
    return markdown(["sequence", "moving points", "of all, %", "found, %", "precision, %"], rows)


def _cell_table(groups: dict[str, Sequence[Dataset]], every: int) -> str:
    grid = rig_spec("small", "kitti").voxel_grid
    rows = []
    for name, datasets in groups.items():
        counts: dict[str, NDArray[np.int64]] = {}
        for dataset in datasets:
            unlabelled = UnlabelledDataset(dataset)
            for i in range(0, len(dataset), every):
                truth = (accumulated if name == "real" else voxel_truth)(dataset, i, grid)
                assert truth is not None
                forms = _forms(dataset, unlabelled, i, grid)
                for form, cells in forms.items():
                    counts[form] = counts.get(form, np.zeros(6, np.int64)) + _compared(cells, truth, dataset.taxonomy.free)
        for form, (hit, lost, occupied, named, empty, free) in counts.items():
            shares = hit / occupied, lost / occupied, hit / max(named, 1), empty / free
            rows.append([name, form, *map(percent, shares)])
    return markdown(["truth", "accumulated", "occupied found, %", "called free, %", "occupied right, %", "free found, %"], rows)


def _forms(dataset: Dataset, unlabelled: UnlabelledDataset, i: int, grid: VoxelGrid) -> dict[str, Occupancy]:
    """Occupancy around frame `i`, accumulated in several ways; as `accumulated_occupancy` does it, the rays followed once."""
    crossed = np.zeros(grid.shape, np.bool_)
    hits = {name: np.zeros(grid.shape, np.bool_) for name in ("one scan", "all points", "ray evidence", "labels")}
    for scan in neighbours(unlabelled, i, SCANS, SCANS, "keep", 0.0):
        own = crossed_cells(scan.origins, scan.ends, grid)
        if scan.number == i:
            alone = own
            hits["one scan"] |= grid.occupied(scan.points)
        crossed |= own
        by_labels = dataset.moving(scan.number)
        assert by_labels is not None
        for name, gone in (("all points", None), ("ray evidence", unlabelled.moving(scan.number)), ("labels", by_labels)):
            there = scan.points if gone is None or scan.number == i else scan.points[~gone]
            hits[name] |= grid.occupied(there)
    forms = {
        "one scan, margin 2": carved(hits["one scan"], alone, 2),
        "all points, margin 2": carved(hits["all points"], crossed, 2),
    }
    forms |= {f"moving by ray evidence, margin {margin}": carved(hits["ray evidence"], crossed, margin) for margin in (2, 1, 0)}
    return forms | {"moving by people's labels, margin 2": carved(hits["labels"], crossed, 2)}


def _compared(cells: Occupancy, truth: Occupancy, free: int) -> NDArray[np.int64]:
    """Of the cells that the truth knows: found occupied, occupied called free, occupied, called occupied, found free, free."""
    occupied, empty = (truth != free) & (truth != IGNORE), truth == free
    hit, called = cells == OCCUPIED, cells == FREE
    parts = occupied & hit, occupied & called, occupied, hit & (occupied | empty), empty & called, empty
    return np.array([part.sum() for part in parts])


def _class_table(datasets: Sequence[Dataset], labels: LabelFolder, every: int) -> str:
    grid, names = rig_spec("small", "kitti").voxel_grid, labels.taxonomy.names
    points, cells = np.zeros((256, 256), np.int64), np.zeros((256, 256), np.int64)
    for dataset in datasets:
        unlabelled = UnlabelledDataset(dataset)
        labels_of = cache(lambda i, dataset=dataset: point_labels(dataset, i, labels))
        for i in range(0, len(dataset), every):
            people = dataset.point_labels(i)
            assert people is not None
            np.add.at(points, (people, labels_of(i)[0]), 1)
            truth = accumulated(dataset, i, grid)
            lifted = lifted_labels(unlabelled, i, grid, labels_of, SCANS, SCANS, "remove")
            np.add.at(cells, (truth, lifted), 1)
    rows = []
    for number, name in enumerate(names):
        if number == labels.taxonomy.free:
            continue
        if points[number].sum():
            rows.append([name, *_shares(points, number), *_shares(cells, number)])
    head = ["class", "points", "labelled, %", "recall, %", "precision, %", "cells", "with a class, %", "recall, %", "precision, %"]
    return markdown(head, rows)


def _shares(pairs: NDArray[np.int64], number: int) -> list[str]:
    """How many are of a class, the share with any label, the recall among these, and the precision of the label; IGNORE is none."""
    total, own = pairs[number].sum(), pairs[number, :IGNORE].sum()
    known = np.delete(pairs[:IGNORE], 0, 0) if number else pairs[:IGNORE]
    named = known[:, number].sum()
    right = pairs[number, number]
    return [
        str(total),
        percent(own / max(total, 1)),
        percent(right / own) if own else "-",
        percent(right / named) if named else "-",
    ]


if __name__ == "__main__":
    sys.exit(main())
