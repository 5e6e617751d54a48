# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""log.csv of a run: a row per step, for people, spreadsheets and the curves; TensorBoard's event files where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import resource
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from occle_core.atomic_file import atomic_write

LOG = "log.csv"
STATE = ("learning_rate", "gradient_norm")
TIMES = ("seconds", "loader_wait", "frames_per_second", "memory_mib")
"""Columns that another machine, or another run of the same training, gives other values for."""


class TrainingLog:
    """log.csv: a row per step; rows after the checkpoint that a run is resumed from are dropped.

    Args:
        path: the file; None writes nothing, as processes other than the first do.
        losses: their names, the first columns after the step.
        first: the step that the run continues with.
        device: whose memory is logged.
        batch_size: frames of a step, over all processes.
    """

    def __init__(self, path: Path | None, losses: Sequence[str], first: int, device: str, batch_size: int) -> None:
        self.losses, self.device, self.batch_size = losses, device, batch_size
        self._file = self._board = None
        if path is not None:
            rows = list(csv.reader(path.open()))[1 : first + 1] if first and path.exists() else []
            with atomic_write(path) as temporary, temporary.open("w", newline="") as fresh:
                csv.writer(fresh).writerows([("step", *losses, *STATE, *TIMES), *rows])
            self._file = path.open("a", newline="")
            self._writer = csv.writer(self._file)
            self._board = _tensorboard(path.parent, first)

    def row(self, step: int, values: dict[str, float], seconds: float, wait: float) -> None:
        """Add a step.

        Args:
            step: its number.
            values: its losses, the learning rate and the gradient's norm before clipping.
            seconds: that the step took, `wait` of them for the loader.
            wait: see `seconds`.
        """
        if self._file is None:
            return
        numbers = [f"{values[name]:.5f}" for name in self.losses] + [f"{values[name]:.6g}" for name in STATE]
        rate, memory = self.batch_size / max(seconds, 1e-9), memory_mib(self.device)
        self._writer.writerow((step, *numbers, f"{seconds:.3f}", f"{wait:.3f}", f"{rate:.3f}", f"{memory:.0f}"))
        self._file.flush()
        if self._board is not None:
            for name in (*self.losses, *STATE):
                self._board.add_scalar(name, values[name], step)
            self._board.add_scalar("frames_per_second", rate, step)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def memory_mib(device: str) -> float:
    """Largest memory of this process so far, MiB: the GPU's on one, resident memory on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _tensorboard(folder: Path, first: int) -> Any:
    """TensorBoard's writer into a run's folder; None where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=first)
