# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reports/label_efficiency.md out of the experiment's scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from occle_core.taxonomy import Taxonomy
from occle_train.evaluation.markdown_tables import class_table, percent, resolution_table
from occle_train.experiments.label_efficiency.presets import ExperimentPreset
from occle_train.experiments.wrap_lines import wrap_lines

Row = tuple[str, float, int, dict[str, Any] | None]
"""Title, alpha, how many times finer its cells are, and scores; None where the setting was not run."""


def write_report(preset: ExperimentPreset, rows: Mapping[str, Row], facts: Mapping[str, Any], classes: Taxonomy) -> str:
    """The report.

    Args:
        preset: of the experiment.
        rows: all settings by their keys; "full", "few", "recipe" and "none" must have scores.
        facts: date, keys of the settings that ran, device, threads and torch's version.
        classes: the taxonomy.
    """
    full, few, recipe, none = (_miou(rows[key]) for key in ("full", "few", "recipe", "none"))
    train, val = preset.streets["train"], preset.streets["val"]
    ran = [(title, scores) for title, _, finer, scores in rows.values() if scores is not None and finer == 1]
    shown = [row for key, row in rows.items() if key not in ("few", "rendered")]
    sizes = [(preset.grid.resolution / finer, alpha, scores) for _, alpha, finer, scores in shown]
    fit, grid, config = preset.fit, preset.grid, preset.recipe
    frames = {name: streets.drives * len(range(0, streets.frames, streets.every)) for name, streets in preset.streets.items()}
    return wrap_lines(f"""# What the label-efficient recipe is worth

Written by `python -m occle_train.experiments.label_efficiency --preset {preset.name} --settings {facts["settings"]}` \
(`make label-efficiency` takes the preset's own settings) on {facts["date"]}; \
{facts["device"]}, {facts["threads"]} threads, torch {facts["torch"]}.

**Data.** Simulated nuScenes-rig streets: {train.drives} training drives ({frames["train"]} frames), {val.drives} validation \
drives ({frames["val"]} frames) of other streets. 2D pseudo-labels are the simulator's semantic images, degraded as those of \
foundation models are (displaced outlines, lost small objects, confused classes, confidences that show only partly \
which; `training/occle_train/pseudo_labels/degrade.py`). Moving objects' points are carried along with their boxes when scans \
are accumulated.

**Training.** One network, {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} cells of {grid.resolution:g} m, {fit.steps} steps \
of {fit.batch_size} frames for every setting, the same schedule and augmentation. The recipe warms up on the labelled scenes for \
{100 * config.warmup_fraction:g} % of the steps; of the frames after that, {100 * config.min_labelled_fraction:g} % are drawn \
from the labelled scenes. Targets are accumulated from {config.past_scans} scans before and {config.future_scans} after each \
frame; the points take the labels of the pixels that show them and vote for the classes of cells, which count \
{config.lift_weight:g} times as much as the \
rendering (lifted labels: ours, not the paper's). These numbers, the form of the spheres, the pixels' class weights and the lifted \
labels were chosen on drives of other seeds ([decisions.md](../reference/decisions.md)), nothing on the validation drives.

## Labels (Table I of the paper)

IoU in percent under the camera mask; ms is the median time of a frame.

{class_table(ran, classes)}

| | here | wanted | paper (Occ3D-nuScenes) |
|---|---:|---:|---:|
| recipe at 10 % / all labels | {_ratio(recipe, full)} | >= 0.75 {_met(recipe >= 0.75 * full)} | 33.43 / 44.85 = 0.745 |
| recipe at 10 % / 10 % of the labels only | {_ratio(recipe, few)} | >= 1.2 {_met(recipe >= 1.2 * few)} | - |
| 0 %, mIoU | {percent(none)} | between 0 and the recipe {_met(0 < none < recipe)} | 13.23 |

## Voxel size (Table II of the paper)

{resolution_table(sizes)}

What is "not run" takes `PRESET=full`, or `--settings` with its key.

## Pictures

Curves (means of 50 steps):

![Losses over the steps](images/label_efficiency_curves.png)

Validation images, pseudo-labels, and the predicted voxels rendered into the cameras, with and without the shader:

![Rendered views](images/label_efficiency_views.jpg)

The settings on validation frames, from above:

![Maps](images/label_efficiency_maps.jpg)
""")


def _miou(row: Row) -> float:
    if row[3] is None:
        raise ValueError(f"the report needs the scores of {row[0]}")
    return float(row[3]["occ3d"]["miou"])


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.3f}" if b else "-"


def _met(yes: bool) -> str:
    return "(met)" if yes else "(missed)"
