# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training curves as pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from occle_train.loop.training_log import STATE, TIMES

WINDOW = 50
"""Largest number of steps that a curve is averaged over."""
MARKED = 30
"""Points up to which a curve shows each."""


def draw_curve(log: Path, picture: Path, title: str, scores: Path | None = None) -> None:
    """Draw the losses of a log.csv over the steps, and the scores of a validation below them.

    Args:
        log: the file.
        picture: the file to write.
        title: of the picture.
        scores: a validation.csv with "step", "iou" and "miou" (shares), where there is one.
    """
    rows = read_rows(log)
    measured = read_rows(scores) if scores is not None and scores.exists() else []
    count = 1 + bool(measured)
    figure, panels = plt.subplots(count, figsize=(8, 1.2 + 3.3 * count), dpi=110, sharex=True, squeeze=False)
    axes = panels[0, 0]
    window = max(1, min(WINDOW, len(rows) // 10))
    if rows:
        steps = np.array([int(row["step"]) + 1 for row in rows])
        for name in (name for name in rows[0] if name not in ("step", *STATE, *TIMES)):
            values = np.array([float(row[name]) for row in rows])
            axes.plot(steps, smoothed(values, window), label=name, marker="." if len(rows) <= MARKED else "")
        axes.legend()
    axes.set(ylabel="loss" if window == 1 else f"loss, mean of {window} steps", title=title)
    if measured:
        steps = np.array([int(row["step"]) for row in measured])
        for name, label in (("iou", "IoU"), ("miou", "mIoU"), ("rayiou", "RayIoU")):
            if measured[0].get(name):
                panels[1, 0].plot(steps, [100 * float(row[name] or "nan") for row in measured], label=label, marker=".")
        panels[1, 0].set(ylabel="validation, %", ylim=(0, None))
        panels[1, 0].legend()
    for axes in panels[:, 0]:
        axes.grid(alpha=0.3)
    panels[-1, 0].set(xlabel="step")
    figure.tight_layout()
    figure.savefig(picture)
    plt.close(figure)


def smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of each value and those before it, at most `window`: as many as there were values."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a head line."""
    with file.open(newline="") as text:
        return list(csv.DictReader(text))
