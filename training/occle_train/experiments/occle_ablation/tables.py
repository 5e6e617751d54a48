# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The paper's tables with our figures beside them, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from occle_core.taxonomy import Taxonomy
from occle_train.evaluation.markdown_tables import markdown, spread
from occle_train.experiments.occle_ablation.settings import (
    BRANCHES,
    CONV3D,
    DISTURBED,
    EXTRACTORS,
    LABELS,
    PAPER_MS,
    Part,
    Scores,
    Setting,
    rows_of,
)

NOT_RUN = "not run"


def labels_table(found: Scores) -> str:
    """Table 4: with and without alignment."""
    lines = []
    for key, (title, paper) in LABELS.items():
        ours = rows_of(found, "labels", key)
        lines.append([title, _of(ours, "image"), f"{paper['image']:.2f}", _of(ours, "lidar"), f"{paper['lidar']:.2f}"])
    return markdown(["pseudo-labels", "mIoU(s)", "paper", "mIoU(S)", "paper"], lines)


def extractor_table(part: Part, ours: str, found: Scores) -> str:
    """Table 4: other extractors of the image or of the scan, and ours.

    Args:
        part: which of the two.
        ours: what our extractor is called.
        found: the scores.
    """
    lines = []
    for extractor in EXTRACTORS:
        if extractor.part == part:
            rows = rows_of(found, "extractors", extractor.key)
            lines.append([extractor.title, _ms(rows), f"{extractor.paper_ms:.2f}", _of(rows, part), f"{extractor.paper:.2f}"])
    paper = LABELS["aligned"][1][part]
    rows = rows_of(found, "labels", "aligned")
    lines.append([ours, _latency(found, part), f"{PAPER_MS[part]:.2f}", _of(rows, part), f"{paper:.2f}"])
    name = {"image": "mIoU(s)", "lidar": "mIoU(S)"}[part]
    return markdown(["extractor", "ms", "paper, ms", name, "paper"], lines)


def branch_table(found: Scores) -> str:
    """Table 5."""
    lines = [
        [
            branch.title,
            f"{100 * branch.share:g}",
            _of(rows_of(found, "branches", branch.key), "iou"),
            f"{branch.paper:.2f}",
        ]
        for branch in (CONV3D, *BRANCHES)
    ]
    return markdown(["model, augmentation", "annotations, %", "IoU", "paper"], lines)


def setting_table(settings: Sequence[Setting], found: Scores) -> str:
    """Rows of whole networks: Tables 6, 7, D.3, D.5, D.6."""
    lines = []
    for setting in settings:
        ours, (miou, iou) = rows_of(found, "settings", setting.key), setting.paper
        share = "0" if "annotations" in setting.without else f"{100 * setting.share:g}"
        lines.append([setting.title, share, _of(ours, "miou"), _number(miou), _of(ours, "iou"), _number(iou)])
    return markdown(["setting", "annotations, %", "mIoU", "paper", "IoU", "paper"], lines)


def disturbed_table(found: Scores) -> str:
    """Table D.4."""
    lines = []
    for key, (title, iou, miou) in DISTURBED.items():
        ours = rows_of(found, "disturbed", key)
        lines.append([title, _of(ours, "iou"), f"{iou:.2f}", _of(ours, "miou"), f"{miou:.2f}"])
    return markdown(["input", "IoU (geometric)", "paper", "mIoU (fusion)", "paper"], lines)


def latency_table(found: Scores) -> str:
    """Milliseconds of the parts (Tables 4, 5, D.2)."""
    titles = {
        "image": "2D extractor with header",
        "lidar": "3D extractor with header",
        "geometric": "geometric branch with header",
        "network": "whole network",
    }
    lines = [[title, _latency(found, key), f"{PAPER_MS[key]:.2f}"] for key, title in titles.items()]
    baseline = rows_of(found, "branches", CONV3D.key)
    lines.insert(3, [f"the same with {CONV3D.title.split(',')[0]}", _ms(baseline), f"{PAPER_MS['conv3d']:.2f}"])
    return markdown(["part", "ms", "paper, ms"], lines)


def class_table(settings: Sequence[Setting], found: Scores, classes: Taxonomy) -> str:
    """Every class's IoU in some settings."""
    ran = [(setting, rows) for setting in settings if (rows := rows_of(found, "settings", setting.key))]
    lines = [
        [classes.names[number + 1], *(f"{100 * mean(row['per_class'][number] for row in rows):.2f}" for _, rows in ran)]
        for number in range(classes.num_classes - 1)
    ]
    return markdown(["class", *(setting.title for setting, _ in ran)], lines)


def _of(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [float(row[key]) for row in rows if key in row]
    return spread(values) if values else NOT_RUN


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


def _ms(rows: Sequence[Mapping[str, Any]]) -> str:
    values = [float(row["ms"]) for row in rows if "ms" in row]
    return f"{median(values):.1f}" if values else NOT_RUN


def _latency(found: Scores, key: str) -> str:
    return _ms([{"ms": scores.latency[key]} for scores in found if key in scores.latency])
