"""How much does occupancy accumulated from scans know, and how much of it is wrong? `python -m benchmark.weak_targets`.

What MinkOcc's recipe teaches on frames without voxel labels is compared with the truth of simulated streets, for the cells that
cameras see: with and without later scans, and for several margins around occupied cells within which nothing is called free.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.machine import machine
from training.label_scales import SMALL
from training.pseudo_labels.lidar import FREE, OCCUPIED, accumulated_occupancy
from training.samples import open_all
from training.streets import simulate
from training.truth import sensor_mask, voxel_truth

FORMS = [(past, future, margin) for past, future in ((0, 0), (10, 0), (10, 10)) for margin in (2, 1, 0)]


def main() -> int:
    """Simulate, accumulate, count."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.weak_targets", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--drives", type=int, default=4)
    parser.add_argument("--every", type=int, default=3, help="frames between those that are looked at; scans are taken from all")
    given = parser.parse_args()
    folder = given.out / f"weak_streets_{given.drives}"
    if not folder.exists():
        simulate(folder, "nuscenes", list(range(given.drives)), 10, 51000, 0.11, 1)
    grid, min_range = SMALL.grid, SMALL.network.points.min_range
    counts = {form: np.zeros(6) for form in FORMS}
    for dataset in open_all(folder):
        for i in range(0, len(dataset), given.every):
            truth, seen = voxel_truth(dataset, i, grid), sensor_mask(dataset, i, grid, ("camera",))
            assert truth is not None and seen is not None
            occupied = seen & (truth < dataset.taxonomy.free)
            free = seen & (truth == dataset.taxonomy.free)
            for form in FORMS:
                past, future, margin = form
                target = accumulated_occupancy(dataset, i, grid, past, future, SMALL.recipe.moving, min_range, margin)
                counts[form] += [(target[occupied] == OCCUPIED).sum(), (target[occupied] == FREE).sum(), occupied.sum(),
                                 (target[free] == FREE).sum(), (target[free] == OCCUPIED).sum(), free.sum()]  # fmt: skip
    table = Table("past", "future", "margin", "occupied found, %", "called free, %", "free found, %", "called occupied, %")
    for form, (hit, lost, occupied_cells, empty, filled, free_cells) in counts.items():
        shares = (hit / occupied_cells, lost / occupied_cells, empty / free_cells, filled / free_cells)
        table.add_row(*map(str, form), *(f"{100 * share:.1f}" for share in shares))
    console = Console(width=150)
    console.print(machine(), highlight=False)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
