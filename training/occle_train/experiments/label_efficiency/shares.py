# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reports/label_shares.md: the settings at shares of the single frames, 10, 5 and 1 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from occle_train.evaluation.markdown_tables import markdown, spread
from occle_train.experiments.label_efficiency.presets import ExperimentPreset
from occle_train.experiments.label_efficiency.report import NOT_RUN, Row, ratios, score_cells, single_seeds, written_by
from occle_train.experiments.label_efficiency.settings import COMPARED, FULL, OF_FRAMES
from occle_train.experiments.wrap_lines import wrap_lines


def write_shares(preset: ExperimentPreset, rows: Mapping[str, Row], facts: Mapping[str, Any]) -> str:
    """The page.

    Args:
        preset: of the experiment.
        rows: all settings by their keys; all labels' must have scores.
        facts: as for `write_report`.
    """
    train = preset.streets["train"]
    return wrap_lines(f"""# Fewer labels

{written_by(preset, facts)} The trainings are those of [label_efficiency.md](label_efficiency.md), which explains data, settings \
and scores; all ratios are of trainings of this page.

One scene of {train.drives} is {100 / train.drives:g} % of the labels already. So smaller shares are of single frames out of all \
scenes, as the paper draws them; a smaller share lies within a larger one. Ten frames of ten streets show more than ten of one: \
compare rows of single frames with each other.

Percent under the camera mask, mean ± sample standard deviation over the seeds that have run:

{_table(rows, train.total)}

{single_seeds([row for row in rows.values() if row.scores])}

What is "not run" takes `--settings` with its key: `recipe-5` is the recipe with 5 % of the frames.
""")


def _table(rows: Mapping[str, Row], frames: int) -> str:
    """All labels, and the compared settings at every share of them.

    Args:
        rows: all settings by their keys.
        frames: of the training drives.
    """
    units = {"scene": "scenes", "frame": "single frames"}
    lines = []
    for setting in (FULL, *COMPARED, *OF_FRAMES):
        row = rows[setting.key]
        found = ["-", *[NOT_RUN] * 4]
        if row.scores:
            relative = ratios(row, rows[FULL.key])
            found = [*score_cells(row), spread(relative, 1, 3) if relative else NOT_RUN]
        drawn = [f"{100 * setting.alpha:g}", str(max(1, round(setting.alpha * frames))), units[setting.unit]]
        lines.append([*drawn, setting.supervision, *found])
    head = ["labels, %", "frames", "drawn as", "supervision", "seeds", "mIoU", "IoU", "RayIoU", "mIoU / all labels"]
    return markdown(head, lines)
