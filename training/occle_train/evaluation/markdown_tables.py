# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores as Markdown tables, laid out like the tables of the MinkOcc paper (Sze et al., Tables I and II).

`python -m occle_train.evaluation.markdown_tables A.json B.json`: Tables I and II of what `occle-train evaluate --json` wrote for
bundles on Occ3D's layout; Table II where the bundles' provenance says their alpha.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from occle_core.datasets import DatasetError
from occle_core.datasets.files import read_json
from occle_core.taxonomy import Taxonomy
from occle_core.taxonomy import load as load_taxonomy

UNDEFINED = ("others", "other_flat")
"""Classes of Occ3D that 2D labels do not define well."""


def class_table(rows: Sequence[tuple[str, dict[str, Any]]], taxonomy: Taxonomy) -> str:
    """Table I: RayIoU, mIoU under the camera mask, latency and the IoU of every class, percent; a row per network.

    The paper leaves *others* and *other flat* out of the mean of self-supervised networks, which is a column of its own here.

    Args:
        rows: name and scores (of `occle_train.evaluation.evaluate.evaluate` on Occ3D's layout) of every network.
        taxonomy: its classes but free are the columns.
    """
    solid = [name for number, name in enumerate(taxonomy.names) if number != taxonomy.free]
    head = ["supervision", "RayIoU", "mIoU", "mIoU of 15 classes", "IoU", "ms", *(name.replace("_", " ") for name in solid)]
    lines = [
        [
            name,
            percent(scores["rayiou"]["rayiou"]),
            percent(scores["occ3d"]["miou"]),
            percent(defined_miou(scores["occ3d"]["per_class"], taxonomy)),
            percent(scores["occ3d"]["iou"]),
            f"{latency(scores):.0f}",
            *(percent(value) for value in scores["occ3d"]["per_class"]),
        ]
        for name, scores in rows
    ]
    return markdown(head, lines)


def defined_miou(per_class: Sequence[float | None], taxonomy: Taxonomy) -> float:
    """Mean over the classes but those that 2D labels do not define (Table I's caption); NaN where none of them is there.

    Args:
        per_class: IoU of each class but free, in the order of their ids; NaN or None for an absent one.
        taxonomy: Occ3D's.
    """
    solid = [name for number, name in enumerate(taxonomy.names) if number != taxonomy.free]
    there = [
        value for name, value in zip(solid, per_class) if name not in UNDEFINED and value is not None and not math.isnan(value)
    ]
    return sum(there) / len(there) if there else math.nan


def resolution_table(rows: Sequence[tuple[float, float, dict[str, Any] | None]]) -> str:
    """Table II: voxel size (metres) and alpha against latency, mIoU and RayIoU; None for what was not run."""
    head = ["voxel size, m", "alpha, %", "latency, ms", "mIoU, %", "RayIoU, %", "memory, GB"]
    lines = []
    for size, alpha, scores in rows:
        found = ["not run"] * 4
        if scores is not None:
            memory = scores.get("memory_gb")
            found = [f"{latency(scores):.0f}", percent(scores["occ3d"]["miou"]), percent(scores["rayiou"]["rayiou"])]
            found.append("-" if memory is None else f"{memory:.2f}")
        lines.append([f"{size:g}", f"{100 * alpha:g}", *found])
    return markdown(head, lines)


def latency(scores: dict[str, Any]) -> float:
    """Median milliseconds of a frame, over all stages."""
    return float(sum(scores["milliseconds"].values()))


def percent(value: float | None) -> str:
    """A share as percent; a dash where there is none."""
    return "-" if value is None or value != value else f"{100 * value:.2f}"


def spread(values: Sequence[float], scale: float = 100, digits: int = 2) -> str:
    """Mean and sample standard deviation; the mean alone of one value."""
    mean = f"{scale * np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {scale * np.std(values, ddof=1):.{digits}f}"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ruler, *lines))


def main() -> int:
    """Table I of the files that are named on the command line."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    rows = []
    for name in sys.argv[1:]:
        try:
            scores = read_json(Path(name))
        except DatasetError as error:
            print(error, file=sys.stderr)
            return 1
        if not isinstance(scores, dict) or not {"bundle", "occ3d", "rayiou"} <= set(scores):
            print(f"{name} holds no scores of Occ3D's benchmark; occle-train evaluate --json writes them", file=sys.stderr)
            return 1
        rows.append((str(scores["bundle"]), scores))
    print(class_table(rows, load_taxonomy("occ3d_nuscenes")))
    if all(scores.get("voxel_size") and scores.get("alpha") is not None for _, scores in rows):
        print()
        print(resolution_table([(scores["voxel_size"], scores["alpha"], scores) for _, scores in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
