"""Scores as Markdown tables, laid out like the tables of the MinkOcc paper (Sze et al., Tables I and II).

`python -m occle_train.evaluation.markdown_tables A.json B.json`: Table I of what `occle-train evaluate --json` wrote for bundles
on Occ3D's layout.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from occle_core.datasets import DatasetError
from occle_core.datasets.files import read_json
from occle_core.taxonomy import Taxonomy
from occle_core.taxonomy import load as load_taxonomy


def class_table(rows: Sequence[tuple[str, dict[str, Any]]], taxonomy: Taxonomy) -> str:
    """Table I: RayIoU, mIoU under the camera mask, latency and the IoU of every class, percent; a row per network.

    Args:
        rows: name and scores (of `occle_train.evaluation.evaluate.evaluate` on Occ3D's layout) of every network.
        taxonomy: its classes but free are the columns.
    """
    solid = [name for number, name in enumerate(taxonomy.names) if number != taxonomy.free]
    head = ["supervision", "RayIoU", "mIoU", "IoU", "ms", *(name.replace("_", " ") for name in solid)]
    lines = [
        [
            name,
            percent(scores["rayiou"]["rayiou"]),
            percent(scores["occ3d"]["miou"]),
            percent(scores["occ3d"]["iou"]),
            f"{latency(scores):.0f}",
            *(percent(value) for value in scores["occ3d"]["per_class"]),
        ]
        for name, scores in rows
    ]
    return markdown(head, lines)


def resolution_table(rows: Sequence[tuple[float, float, dict[str, Any] | None]]) -> str:
    """Table II: voxel size (metres) and alpha against latency, mIoU and RayIoU; None for what was not run."""
    head = ["voxel size, m", "alpha, %", "latency, ms", "mIoU, %", "RayIoU, %"]
    lines = []
    for size, alpha, scores in rows:
        found = ["not run"] * 3
        if scores is not None:
            found = [f"{latency(scores):.0f}", percent(scores["occ3d"]["miou"]), percent(scores["rayiou"]["rayiou"])]
        lines.append([f"{size:g}", f"{100 * alpha:g}", *found])
    return markdown(head, lines)


def latency(scores: dict[str, Any]) -> float:
    """Median milliseconds of a frame, over all stages."""
    return float(sum(scores["milliseconds"].values()))


def percent(value: float | None) -> str:
    """A share as percent; a dash where there is none."""
    return "-" if value is None or value != value else f"{100 * value:.2f}"


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
