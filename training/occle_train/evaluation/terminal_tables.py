# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

from occle_core.bundle import BundleSpec
from occle_core.engines.parity import Parity
from occle_core.taxonomy import Taxonomy
from occle_train.evaluation.markdown_tables import defined_miou

TITLES = {
    "grid": "bundle's grid",
    "official": "official 0.2 m grid, upsampled",
    "occ3d": "camera mask (Occ3D)",
    "scan": "voxelised scan",
}


def score_table(scores: dict[str, Any], taxonomy: Taxonomy, bundle_id: str) -> Group:
    """Completion and semantic scores (percent) of `occle_train.evaluation.evaluate.evaluate`, a column per way of counting."""
    kinds = [kind for kind in TITLES if kind in scores]
    table = Table(title=f"{bundle_id}: {scores['frames']} frames", title_justify="left")
    table.add_column("IoU, %", no_wrap=True)
    for kind in kinds:
        table.add_column(TITLES[kind], justify="right")
    table.add_row("occupied against free", *(_percent(scores[kind]["iou"]) for kind in kinds), style="bold")
    for name in ("precision", "recall"):
        if all(name in scores[kind] for kind in kinds):
            table.add_row(name, *(_percent(scores[kind][name]) for kind in kinds))
    semantic = [kind for kind in kinds if kind != "scan"]
    for name, title in (("miou", "mIoU"), ("miou_present", "mIoU, present classes")):
        if all(name in scores[kind] for kind in semantic):
            table.add_row(title, *(_percent(scores[kind][name]) if kind in semantic else "" for kind in kinds), style="bold")
    if "occ3d" in scores:
        value = _percent(defined_miou(scores["occ3d"]["per_class"], taxonomy))
        table.add_row("mIoU, no others, other_flat", *(value if kind == "occ3d" else "" for kind in kinds))
    solid = [name for number, name in enumerate(taxonomy.names) if number != taxonomy.free]
    for number, name in enumerate(solid):
        table.add_row(f"  {name}", *(_percent(scores[kind]["per_class"][number]) if kind in semantic else "" for kind in kinds))
    lines: list[Any] = [table]
    if "rayiou" in scores:
        names = ("rayiou", "rayiou_1", "rayiou_2", "rayiou_4")
        lines.append("RayIoU " + ", ".join(f"{name} {_percent(scores['rayiou'][name])}" for name in names))
    total = sum(scores["milliseconds"].values())
    stages = ", ".join(f"{stage} {value:.0f}" for stage, value in scores["milliseconds"].items())
    lines.append(f"median {total:.0f} ms a frame: {stages}")
    if "scan" in scores and "occ3d" not in scores and taxonomy.name == "occ3d_nuscenes":
        lines.append("not every truth has a camera mask: Occ3D's masked score is left out")
    for frame in scores["unusable"]:
        lines.append(f"scored as free, {frame}")
    for reason, count in scores["short_history"].items():
        lines.append(f"{count} frames saw fewer past frames: {reason}")
    return Group(*lines)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"


def capacity_table(spec: BundleSpec) -> Table:
    """Capacities of a bundle's static form as a table."""
    assert spec.capacities is not None
    table = Table(title=f"{spec.name}: rows of the engines' tables")
    for column in ("", "typical frames", "all frames"):
        table.add_column(column, justify="right" if column else "left")
    typical = spec.typical or spec.capacities
    table.add_row("points", str(typical.points), str(spec.capacities.points))
    for name, rows in spec.capacities.sets.items():
        table.add_row(name, str(typical.sets[name]), str(rows))
    return table


def parity_line(parity: Parity) -> str:
    """An engine's agreement with PyTorch, in a sentence."""
    return (
        f"{parity.frames} frames, {parity.different} of {parity.cells} cells differ ({100 * parity.agreement:.4f} % agree, "
        f"{100 * parity.occupied_agreement:.3f} % of the {parity.occupied} occupied), confidence by up to {parity.confidence:.4f}; "
        f"{parity.overflowed} frames overflowed"
    )
