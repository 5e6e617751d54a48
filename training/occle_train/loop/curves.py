"""Training curves as pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def draw_curve(log: Path, picture: Path, title: str, window: int = 50) -> None:
    """Draw the losses of a log.csv over the steps, averaged over `window` steps."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = np.array([int(row["step"]) for row in rows])
    window = max(1, min(window, len(rows)))
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=110)
    for name in (name for name in ("total", "occupancy", "semantic", "pseudo") if name in rows[0]):
        values = np.array([float(row[name]) for row in rows])
        smooth = np.convolve(values, np.ones(window) / window, "valid")
        axes.plot(steps[window - 1 :], smooth, label=name)
    axes.set(xlabel="step", ylabel=f"loss, mean of {window} steps", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(picture)
    plt.close(figure)
