# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Progress: a bar on a terminal, a line every so often in a pipe or a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

INTERVAL = 20.0
"""Seconds between two lines where there is no terminal."""


class LineProgress(Progress):
    """A progress bar's calls, answered by a line at the start and every so often: `simulating: 12 of 64, about 3 min left`.

    Args:
        console: where to.
        interval: seconds between two lines.
    """

    def __init__(self, console: Console, interval: float = INTERVAL) -> None:
        super().__init__(console=console, disable=True)
        self.interval, self._began, self._last = interval, time.monotonic(), time.monotonic()

    def add_task(self, *args: Any, **values: Any) -> TaskID:
        """Add a task; its first line says that it has begun."""
        task_id = super().add_task(*args, **values)
        self._print(task_id)
        return task_id

    def update(self, task_id: TaskID, **values: Any) -> None:
        """Set a task's values; its line is printed when the last one is old."""
        super().update(task_id, **values)
        self._print(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count a part of a task as done."""
        super().advance(task_id, advance)
        self._print(task_id)

    def _print(self, task_id: TaskID) -> None:
        task, now = self.tasks[task_id], time.monotonic()
        done, total = task.completed, task.total
        if not total or (now - self._last < self.interval and 0 < done < total):
            return
        self._last = now
        left = f", about {duration((now - self._began) / done * (total - done))} left" if 0 < done < total else ""
        self.console.print(f"{task.description}: {done:.0f} of {total:.0f}{left}", highlight=False, soft_wrap=True)


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
