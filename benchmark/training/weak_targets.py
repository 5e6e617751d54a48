# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recall and precision of weak targets: `python -m benchmark.training.weak_targets`.

What MinkOcc's recipe teaches on frames without voxel labels is compared with the truth of simulated streets, for the cells that
cameras see: occupancy accumulated with and without later scans, and for several margins around occupied cells within which nothing
is called free; and the classes that points take from degraded semantic images, with and without a look at what hides them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from occle_train.data.samples import open_all
from occle_train.data.truth import sensor_mask, voxel_truth
from occle_train.experiments.label_efficiency.presets import SMALL
from occle_train.pseudo_labels import lift
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED, Moving, accumulated_occupancy
from occle_train.streets import simulate
from rich.console import Console
from rich.table import Table

from benchmark.machine import machine
from occle_core.datasets import Dataset
from occle_core.taxonomy import load

FORMS = [(past, future, margin) for past, future in ((0, 0), (10, 0), (10, 10)) for margin in (2, 1, 0)]


def main() -> int:
    """Simulate, accumulate, count."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.weak_targets", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--drives", type=int, default=4)
    parser.add_argument("--every", type=int, default=3, help="frames between those that are looked at; scans are taken from all")
    given = parser.parse_args()
    folder = given.out / f"weak_streets_{given.drives}"
    if not folder.exists():
        simulate(folder, "nuscenes", list(range(given.drives)), 10, 51000, 0.11, 1)
    grid, min_range = SMALL.grid, SMALL.network.points.min_range
    moving = _moving_points()
    counts = {form: np.zeros(6) for form in FORMS}
    datasets = open_all(folder)
    for dataset in datasets:
        for i in range(0, len(dataset), given.every):
            _, occupied, free = _seen(dataset, i)
            for form in FORMS:
                past, future, margin = form
                target = accumulated_occupancy(dataset, i, grid, past, future, moving, min_range, margin)
                counts[form] += [(target[occupied] == OCCUPIED).sum(), (target[occupied] == FREE).sum(), occupied.sum(),
                                 (target[free] == FREE).sum(), (target[free] == OCCUPIED).sum(), free.sum()]  # fmt: skip
    table = Table("past", "future", "margin", "occupied found, %", "called free, %", "free found, %", "called occupied, %")
    for form, (hit, lost, occupied_cells, empty, filled, free_cells) in counts.items():
        shares = (hit / occupied_cells, lost / occupied_cells, empty / free_cells, filled / free_cells)
        table.add_row(*map(str, form), *(f"{100 * share:.1f}" for share in shares))
    console = Console(width=150)
    console.print(machine(), highlight=False)
    console.print(table)
    classes = load("occ3d_nuscenes")
    labeller = DegradedLabeller(classes, DegradeConfig(), 0)
    write_missing(given.out / f"weak_labels_{given.drives}", datasets, labeller, classes, labeller.source)
    labels = LabelFolder(given.out / f"weak_labels_{given.drives}", classes)
    for behind, title in ((np.inf, "all points vote"), (lift.BEHIND, "points that something nearer hides do not vote")):
        console.print(_lifted(datasets, labels, behind, given.every, title))
    return 0


def _moving_points() -> Moving:
    """What the preset does with points of moving objects, by their boxes."""
    moving = SMALL.recipe.moving_points
    assert moving != "rays"
    return moving


def _seen(dataset: Dataset, i: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """The truth of a frame, and which of the cells that cameras see are occupied and free."""
    truth, seen = voxel_truth(dataset, i, SMALL.grid), sensor_mask(dataset, i, SMALL.grid, ("camera",))
    assert truth is not None and seen is not None
    return truth, seen & (truth < dataset.taxonomy.free), seen & (truth == dataset.taxonomy.free)


def _lifted(datasets: Sequence[Dataset], labels: LabelFolder, behind: float, every: int, title: str) -> Table:
    """Of every class: how many of its cells have a class, how many of these the right one, and how many that have it are of it."""
    recipe, names = SMALL.recipe, labels.taxonomy.names
    scans = (recipe.past_scans, recipe.future_scans, _moving_points(), SMALL.network.points.min_range)
    pairs = np.zeros((256, 256), np.int64)
    with patch.object(lift, "BEHIND", behind):
        for dataset in datasets:
            labels_of = cache(lambda i, dataset=dataset: lift.point_labels(dataset, i, labels))
            for i in range(0, len(dataset), every):
                truth, occupied, _ = _seen(dataset, i)
                found = lift.lifted_labels(dataset, i, SMALL.grid, labels_of, *scans)
                np.add.at(pairs, (truth[occupied], found[occupied]), 1)
    table = Table("class", "cells", "with a class, %", "recall of these, %", "precision, %", title=f"lifted labels: {title}")
    named = pairs[:, : len(names)]
    for number, name in enumerate(names):
        if number != labels.taxonomy.free and (cells := pairs[number].sum()):
            right, own = named[number, number], named[number].sum()
            shares = (own / cells, right / max(own, 1), right / max(named[:, number].sum(), 1))
            table.add_row(name, str(cells), *(f"{100 * share:.1f}" for share in shares))
    table.add_row(
        "all", str(pairs.sum()), f"{100 * named.sum() / pairs.sum():.1f}", f"{100 * np.trace(named) / named.sum():.1f}", ""
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
