# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reports/label_efficiency.md out of the experiment's scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from occle_core.taxonomy import Taxonomy
from occle_train.data.self_training import SelfTrainingConfig
from occle_train.evaluation.markdown_tables import class_table, markdown, resolution_table, spread
from occle_train.experiments.label_efficiency.presets import PRESETS, ExperimentPreset
from occle_train.experiments.label_efficiency.settings import OWN_SETTINGS
from occle_train.experiments.wrap_lines import wrap_lines

NEEDED = ("full", "recipe")
"""Keys of the settings that the report needs, of the same seed."""
WANTED_OF_FULL, WANTED_OF_FEW = 0.90, 1.2
"""Least mIoU of the recipe at 10 %, relative to all labels and to the same labels without it."""
NOT_RUN = "not run"


@dataclass(frozen=True)
class Row:
    """A setting and its scores.

    Args:
        title: what people read.
        alpha: share of scenes, or frames, with voxel labels.
        finer: cells this many times smaller than the preset's.
        scores: by seed; none where it was not run.
    """

    title: str
    alpha: float
    finer: int
    scores: Mapping[int, dict[str, Any]] = field(default_factory=dict)

    def values(self, table: str, key: str) -> list[float]:
        """One score of all seeds, such as "occ3d", "miou"."""
        return [float(scores[table][key]) for scores in self.scores.values()]


def write_report(preset: ExperimentPreset, rows: Mapping[str, Row], facts: Mapping[str, Any], classes: Taxonomy) -> str:
    """The report.

    Args:
        preset: of the experiment.
        rows: all settings by their keys; those `NEEDED` must have scores of the same seed.
        facts: date, keys of the settings and seeds that were asked for, the seed that is drawn, device, threads and torch's
            version.
        classes: the taxonomy.
    """
    for key in NEEDED:
        if not rows[key].scores:
            raise ValueError(f"the report needs the scores of {rows[key].title}")
    train, val = preset.streets["train"], preset.streets["val"]
    own = [rows[setting.key] for setting in OWN_SETTINGS]
    ran = [row for row in own if row.scores and row.finer == 1]
    sizes = [
        (preset.grid.resolution / row.finer, row.alpha, mean_scores(list(row.scores.values())) if row.scores else None)
        for key, row in rows.items()
        if key in ("full", "recipe", "none", "recipe_half", "recipe_quarter")
    ]
    fit, grid, config = preset.fit, preset.grid, preset.recipe
    frames = {name: streets.total for name, streets in preset.streets.items()}
    return wrap_lines(f"""# What the label-efficient recipe is worth

{written_by(preset, facts)}

**Data.** Simulated nuScenes-rig streets: {train.drives} training drives ({frames["train"]} frames), {val.drives} validation \
drives ({frames["val"]} frames) of other streets. 2D pseudo-labels are the simulator's semantic images, degraded as those of \
foundation models are (displaced outlines, lost small objects, confused classes, confidences that show only partly \
which; `training/occle_train/pseudo_labels/degrade.py`). Moving objects' points are carried along with their boxes when scans \
are accumulated.

**Training.** One network, {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} cells of {grid.resolution:g} m, {fit.steps} steps \
of {fit.batch_size} frames for every setting, the same schedule and augmentation. \
{_short(preset)}The recipe warms up on the labelled scenes for \
{100 * config.warmup_fraction:g} % of the steps; of the frames after that, {100 * config.min_labelled_fraction:g} % are drawn \
from the labelled scenes. Targets are accumulated from {config.past_scans} scans before and {config.future_scans} after each \
frame; the points take the labels of the pixels that show them and vote for the classes of cells, which count \
{config.lift_weight:g} times as much as the \
rendering (lifted labels: ours, not the paper's). These numbers, the form of the spheres, the pixels' class weights and the lifted \
labels were chosen on drives of other seeds ([decisions.md](../reference/decisions.md)), nothing on the validation drives.

## Labels (Table I of the paper)

Percent under the camera mask, mean ± sample standard deviation over the seeds that have run. A seed draws weights, order and \
augmentation; streets, labelled scenes and pseudo-labels are the same for all.

{_seed_table(ran)}

{single_seeds(ran)}

Ratios of mIoU, seed by seed:

{_ratio_table(rows)}

IoU of every class, means over the seeds; ms is the median time of a frame, whatever ran beside it:

{class_table([(row.title, mean_scores(list(row.scores.values()))) for row in ran], classes)}

*The paper's recipe* is followed to the letter, but for this experiment's network, views, steps and learning rate. \
The averaged *teacher* is the running average of the network's own weights. \
From {100 * SelfTrainingConfig().start:g} % of the \
steps on it teaches cells of the frames without voxel labels: its class probabilities are calibrated per class on the labelled \
frames of the last batches and fused with the lifted votes, and what is {100 * SelfTrainingConfig().least_confidence:g} % sure is \
learnt. Cells that accumulated rays passed stay free. How it is calibrated was decided while looking at the truth of training \
drives whose labels it does not get, at none of validation. *Scans first*: for a third of the steps the network completes the \
occupancy that the scans and rays of all scenes show, without any label (rays, not boxes, say what moves); then it learns as \
*voxel labels alone* do.

Shares of the single frames, 10, 5 and 1 %: [label_shares.md](label_shares.md).

## Voxel size (Table II of the paper)

{resolution_table(sizes)}

What is "not run" takes `PRESET=full`, or `--settings` with its key.

## Pictures

Of seed {facts["drawn"]}. Curves (means of 50 steps):

![Losses over the steps](images/label_efficiency_curves.png)

Validation images, pseudo-labels, and the predicted voxels rendered into the cameras, with and without the shader:

![Rendered views](images/label_efficiency_views.jpg)

The settings on validation frames, from above:

![Maps](images/label_efficiency_maps.jpg)
""")


def written_by(preset: ExperimentPreset, facts: Mapping[str, Any]) -> str:
    """The command, date and machine of a page."""
    return (
        f"Written by `python -m occle_train.experiments.label_efficiency --preset {preset.name} --steps {preset.fit.steps} "
        f"--settings {facts['settings']} --seeds {facts['seeds']}` (`make label-efficiency` takes the preset's own steps, settings "
        f"and seeds) on {facts['date']}; {facts['device']}, {facts['threads']} threads, torch {facts['torch']}."
    )


def mean_scores(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The means over seeds of what the tables show."""
    per_class = [
        [value for value in values if value is not None and not math.isnan(value)]
        for values in zip(*(one["occ3d"]["per_class"] for one in scores))
    ]
    return {
        "occ3d": {
            **{key: statistics.mean(one["occ3d"][key] for one in scores) for key in ("miou", "iou")},
            "per_class": [statistics.mean(values) if values else None for values in per_class],
        },
        "rayiou": {"rayiou": statistics.mean(one["rayiou"]["rayiou"] for one in scores)},
        "milliseconds": {"frame": statistics.median(sum(one["milliseconds"].values()) for one in scores)},
    }


def ratios(row: Row, other: Row) -> list[float]:
    """mIoU of one setting relative to another's, of every seed that both have."""
    return [
        scores["occ3d"]["miou"] / other.scores[seed]["occ3d"]["miou"]
        for seed, scores in row.scores.items()
        if seed in other.scores and other.scores[seed]["occ3d"]["miou"]
    ]


def _seed_table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = [[row.title, *score_cells(row)] for row in rows]
    return markdown(["supervision", "seeds", "mIoU", "IoU", "RayIoU"], lines)


def _ratio_table(rows: Mapping[str, Row]) -> str:
    """What was wanted of the settings relative to each other."""
    wanted = (
        ("10 % with our recipe / all labels", "recipe", "full", WANTED_OF_FULL, "-"),
        ("10 % with our recipe and averaged teacher / all labels", "self_training", "full", WANTED_OF_FULL, "-"),
        ("10 % with the paper's own recipe / all labels", "paper", "full", None, "33.43 / 44.85 = 0.745"),
        ("10 % with our recipe / 10 % of the labels only", "recipe", "few", WANTED_OF_FEW, "-"),
        ("averaged teacher / our recipe without", "self_training", "recipe", None, "-"),
        ("scans first / 10 % of the labels only", "pretrained", "few", None, "-"),
    )
    lines = []
    for title, key, other, least, paper in wanted:
        found = ratios(rows[key], rows[other])
        mark = "-"
        if least is not None:
            mark = f">= {least:.2f}" + (_met(statistics.mean(found) >= least) if found else "")
        lines.append([title, spread(found, 1, 3) if found else NOT_RUN, str(len(found)), mark, paper])
    none, recipe = (rows[key].values("occ3d", "miou") for key in ("none", "recipe"))
    if none:
        between = _met(0 < statistics.mean(none) < statistics.mean(recipe))
        lines.append(["0 %, mIoU", spread(none), str(len(none)), f"between 0 and the recipe{between}", "13.23"])
    return markdown(["", "here", "seeds", "wanted", "paper (Occ3D-nuScenes)"], lines)


def score_cells(row: Row) -> list[str]:
    """The seeds of a row, and its scores' means and standard deviations."""
    scores = (("occ3d", "miou"), ("occ3d", "iou"), ("rayiou", "rayiou"))
    return [", ".join(map(str, row.scores)), *(spread(row.values(*score)) for score in scores)]


def single_seeds(rows: Sequence[Row]) -> str:
    """Which rows have one seed, in words."""
    alone = [row.title for row in rows if len(row.scores) == 1]
    if not alone:
        return "Every row that has run has several seeds."
    return f"One seed only, so without a spread: {'; '.join(alone)}. Differences within the others' spreads say nothing."


def _short(preset: ExperimentPreset) -> str:
    """That a training was shorter than the preset's own, and what it means."""
    own = PRESETS[preset.name].fit.steps
    if preset.fit.steps >= own:
        return ""
    return f"The preset's own number is {own}: with fewer, the settings with most labels have the most left to learn. "


def _met(yes: bool) -> str:
    return " (met)" if yes else " (missed)"
