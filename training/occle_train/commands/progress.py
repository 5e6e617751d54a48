"""Progress of a training: a bar on a terminal, a line every so often in a pipe or a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

INTERVAL = 20.0
"""Seconds between two lines where there is no terminal."""


class TrainingProgress:
    """Shows steps, loss and the time that is left.

    Args:
        phases: names and numbers of steps, in order.
        console: where to.
        interval: seconds between two lines where there is no terminal.
    """

    def __init__(self, phases: Mapping[Any, int], console: Console, interval: float = INTERVAL) -> None:
        self.phases, self.console, self.interval = phases, console, interval
        self.steps = 0
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last, self._began = -interval, (0.0, 0)
        self._phase = ""

    def __enter__(self) -> TrainingProgress:
        if self.console.is_terminal and not self.console.quiet:
            columns = [
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[loss]}"),
            ]
            self._bar = Progress(*columns, console=self.console)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, phase: str, step: int, losses: Mapping[str, float]) -> None:
        """A step is done."""
        self.steps, total = step + 1, self.phases[phase]
        if self._bar is not None:
            if phase not in self._tasks:
                self._tasks[phase] = self._bar.add_task(phase, total=total, completed=step, loss="")
            self._bar.update(self._tasks[phase], completed=step + 1, loss=f"loss {losses['total']:.3f}")
            return
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began, self._last = phase, (now, step), now - self.interval
        if now - self._last < self.interval and step + 1 < total:
            return
        self._last = now
        seconds = (now - self._began[0]) / max(1, step - self._began[1])
        left = f", about {duration(seconds * (total - step - 1))} left" if self._began[1] < step < total - 1 else ""
        parts = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.console.print(f"{phase}: step {step + 1} of {total}, {parts}{left}", highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in words: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
