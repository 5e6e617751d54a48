# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The training loop: batch after batch, with log, checkpoints, validation, a time limit, and a stop on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from occle_train.loop.checkpoints import Checkpoint
from occle_train.loop.stop_request import end_steps_first
from occle_train.loop.training_log import TrainingLog
from occle_train.loop.workers import close_loader
from occle_train.process_group import ALONE, ProcessGroup

B = TypeVar("B")
N = TypeVar("N", bound=nn.Module)


class Clock:
    """Seconds that a run has trained, over all of its starts; a part of the checkpoint.

    Args:
        spent: seconds that count before the first step, such as those of measuring a step's time.
    """

    def __init__(self, spent: float = 0.0) -> None:
        self._before, self._started = spent, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return self._before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, float]:
        """For the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from a checkpoint."""
        self._before, self._started = state["seconds"], time.monotonic()


def shared_seconds(clock: Clock, group: ProcessGroup, device: str) -> float:
    """A clock's seconds, the mean over the processes that train together: what a schedule makes of them is the same in all."""
    if group.size == 1:
        return clock.seconds
    return float(group.total(torch.tensor([clock.seconds], dtype=torch.float64, device=device))[0]) / group.size


@dataclass(frozen=True)
class LoopHooks:
    """Callbacks of a training loop.

    Args:
        on_progress: called after every step with its number and losses.
        should_stop: asked after every step; True saves a checkpoint and ends the loop.
        out_of_time: asked after every step; True ends the training as its last step does.
        validate: called with the number of steps done, every `validate_every` steps.
        validate_every: steps between validations.
    """

    on_progress: Callable[[int, dict[str, float]], None]
    should_stop: Callable[[], bool]
    out_of_time: Callable[[], bool]
    validate: Callable[[int], None] | None
    validate_every: int


@dataclass(frozen=True)
class TrainingHooks(Generic[N]):
    """Callbacks of a training.

    Args:
        on_progress: called after every step with the name of its phase, its number in the phase, and its losses.
        should_stop: asked after every step; True saves a checkpoint and ends the training early.
        validate: called every `validate_every` steps with the steps done and a copy of the trained network, on the CPU.
        validate_every: steps between validations.
    """

    on_progress: Callable[[str, int, dict[str, float]], None] = lambda phase, step, losses: None
    should_stop: Callable[[], bool] = lambda: False
    validate: Callable[[int, N], None] | None = None
    validate_every: int = 500

    def of_loop(self, phase: str, trained: Callable[[], N], out_of_time: Callable[[], bool] = lambda: False) -> LoopHooks:
        """The callbacks of a phase's loop, where `trained` copies the network as it is now."""
        validate = self.validate
        return LoopHooks(
            lambda step, losses: self.on_progress(phase, step, losses),
            self.should_stop,
            out_of_time,
            None if validate is None else lambda step: validate(step, trained()),
            self.validate_every,
        )


NO_HOOKS: TrainingHooks[Any] = TrainingHooks()


@end_steps_first()
def run_steps(
    batches: Iterable[B],
    take_step: Callable[[int, B], dict[str, float]],
    steps: range,
    log: TrainingLog,
    checkpoint: Checkpoint,
    hooks: LoopHooks,
    group: ProcessGroup = ALONE,
) -> int:
    """Run the steps that are left.

    Args:
        batches: of these steps.
        take_step: trains on a batch; returns the losses, "learning_rate" and "gradient_norm".
        steps: from the step to begin with to the number of steps in all.
        log, checkpoint, hooks: what is written and called.
        group: the processes that train together: they stop together, the first writes.

    Returns:
        the number of steps done: all, or fewer after a request to stop. A training whose time is over counts as done.
    """
    iterator = iter(batches)
    try:
        done, began = steps.start, time.perf_counter()
        for step, batch in enumerate(iterator, steps.start):
            waited = time.perf_counter() - began
            values = take_step(step, batch)
            log.row(step, values, time.perf_counter() - began, waited)
            hooks.on_progress(step, {name: values[name] for name in log.losses})
            done = step + 1
            stop, late = (value > 0 for value in _agreed(group, hooks.should_stop(), hooks.out_of_time()))
            last = late or done == steps.stop
            if group.rank == 0 and (stop or last or done % checkpoint.every == 0):
                checkpoint.save(steps.stop if last else done)
            if hooks.validate and not last and not stop and done % hooks.validate_every == 0 and group.rank == 0:
                hooks.validate(done)
            if last:
                return steps.stop
            if stop:
                return done
            began = time.perf_counter()
        return done
    finally:
        close_loader(iterator)


def _agreed(group: ProcessGroup, *wishes: bool) -> list[float]:
    """How many processes wish each: all have to end after the same step."""
    if group.size == 1:
        return [float(wish) for wish in wishes]
    device = f"cuda:{torch.cuda.current_device()}" if torch.distributed.get_backend() == "nccl" else "cpu"
    counts: list[float] = group.total(torch.tensor([float(wish) for wish in wishes], device=device)).tolist()
    return counts
