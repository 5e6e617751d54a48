# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Accuracy of rendered spheres in showing the voxel that a pixel belongs to: `python -m benchmark.training.sphere_radius`.

The true voxels of simulated streets are rendered as spheres of one size, those with nothing above them at their cells' centres or
sunk by their radius, and the class of every pixel is compared with the simulator's exact semantic image: whatever differs would
give a perfect network a wrong gradient.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from occle_train.data.samples import View, open_all
from occle_train.data.truth import voxel_truth
from occle_train.data.views import batch_view
from occle_train.experiments.label_efficiency.presets import SMALL
from occle_train.pseudo_labels.degrade import semantic_file
from occle_train.pseudo_labels.label_folder import read_gray
from occle_train.rendering.head import NEAR, OPACITY, uncovered
from occle_train.rendering.spheres import render_spheres
from occle_train.streets import simulate
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from benchmark.machine import machine

FORMS = [(radius, sunk) for sunk in (False, True) for radius in (0.87, 0.7, 0.6, 0.5, 0.4)]
SHOWN = ("car", "pedestrian", "driveable_surface", "sidewalk", "terrain", "manmade", "vegetation")
CERTAIN = 5.0
"""Logit of a voxel's own class; a pixel that none reaches by half was not met by a sphere."""


def main() -> int:
    """Simulate, render, count."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.sphere_radius", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--drives", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / f"sphere_streets_{given.drives}"
    if not folder.exists():
        simulate(folder, "nuscenes", list(range(given.drives)), 8, 11000, 0.11, 1, every=4)
    datasets = open_all(folder)
    names, grid, recipe = datasets[0].taxonomy.names, SMALL.grid, SMALL.recipe
    size, classes, free = (recipe.view_width, recipe.view_height), len(names), datasets[0].taxonomy.free
    counts = {form: np.zeros((classes, classes), np.int64) for form in FORMS}
    missed = dict.fromkeys(FORMS, 0)
    for dataset in datasets:
        for i in range(len(dataset)):
            truth = voxel_truth(dataset, i, grid)
            assert truth is not None
            cells = np.argwhere(truth < free)
            features = CERTAIN * torch.eye(classes)[torch.from_numpy(truth[tuple(cells.T)].astype(np.int64))]
            centers = torch.from_numpy(grid.centers(cells)).float()
            top = uncovered(torch.from_numpy(np.pad(cells, ((0, 0), (1, 0)))), grid)
            frame = dataset.frame(i)
            for name, camera in zip(dataset.camera_names, frame.cameras):
                labels = read_gray(semantic_file(dataset, i, name))
                labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
                view = batch_view(View(camera.resized(*size), labels, np.ones(labels.shape, np.float32)), 0, frame.T_grid_lidar)
                for radius, sunk in FORMS:
                    radii = torch.full((len(centers),), radius * grid.resolution)
                    lowered = centers - F.pad((radii * top * sunk)[:, None], (2, 0))
                    opacity = torch.full_like(radii, OPACITY).sigmoid()
                    picture = render_spheres(
                        lowered,
                        features,
                        radii,
                        opacity,
                        view.camera,
                        size,
                        recipe.gamma,
                        torch.zeros(classes),
                        (NEAR, recipe.max_depth),
                    )
                    met = (picture.max(0).values > CERTAIN / 2).numpy()
                    known = labels < free
                    np.add.at(counts[radius, sunk], (labels[known & met], picture.argmax(0).numpy()[known & met]), 1)
                    missed[radius, sunk] += int((known & ~met).sum())
    table = Table("radius, cells", "open ones", "pixels met, %", "of these right, %", *(f"{name}, %" for name in SHOWN))
    for radius, sunk in FORMS:
        count = counts[radius, sunk]
        right, every = count.diagonal(), count.sum(1)
        recall = [right[k] / max(1, every[k]) for k in map(names.index, SHOWN)]
        met = every.sum() / (every.sum() + missed[radius, sunk])
        values = (met, right.sum() / every.sum(), *recall)
        table.add_row(f"{radius:g}", "sunk" if sunk else "centred", *(f"{100 * value:.1f}" for value in values))
    console = Console(width=150)
    console.print(machine(1), highlight=False)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
