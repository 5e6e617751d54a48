# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sampling of the frames that each training step uses."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import DatasetError
from occle_core.datasets.files import warn_once
from occle_core.frame import FrameError
from occle_train.data.augment import AugmentConfig
from occle_train.data.samples import TargetKind

T = TypeVar("T")


def first_usable(item: int, pool: Sequence[int], make: Callable[[int], T], describe: Callable[[int], str]) -> T:
    """The sample of a frame or, where the frame is unusable, of the next usable one in its pool.

    Each unusable frame is logged once.

    Args:
        item: the frame, one of the pool.
        pool: frames, ascending.
        make: raises FrameError for a frame that no network can use.
        describe: a frame in words.

    Raises:
        DatasetError: no frame of the pool can be used.
    """
    first = bisect_left(pool, item)
    for offset in range(len(pool)):
        candidate = pool[(first + offset) % len(pool)]
        try:
            return make(candidate)
        except FrameError as error:
            warn_once(f"{describe(candidate)} is left out of the training: {error}")
    raise DatasetError("no frame of the training set can be used; the warnings above say why")


def pick_pool(place: int, share: float) -> tuple[bool, int]:
    """From which of two sets the frame at a place of the order comes: a share of all places, evenly spread, is the first set's.

    Returns:
        whether it is the first set's, and how many places before it are of the same set.
    """
    before, after = math.floor(share * place), math.floor(share * (place + 1))
    return (True, before) if after > before else (False, place - before)


class BatchSampler:
    """The frames of every step from `first` on: each epoch is a permutation of its own.

    Args:
        count: how many frames there are.
        plan: seed, steps and batch size.
        first: the step to begin with.
        warm: the frames that may be drawn in the phase of labels; None for all.
        weak: the frames that are drawn in the weak phase beside the plan's share of `warm`; None for all.
    """

    def __init__(
        self, count: int, plan: SamplingPlan, first: int, warm: Sequence[int] | None = None, weak: Sequence[int] | None = None
    ) -> None:
        self.plan, self.first, self.everything = plan, first, np.arange(count)
        self.warm, self.weak = (self.everything if pool is None else np.asarray(pool, np.int64) for pool in (warm, weak))

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for step in range(self.first, self.plan.steps):
            kind = self.plan.target_kind(step)
            share = {"scans": 0.0, "labels": 1.0, "weak": self.plan.min_labelled_fraction}[kind]
            items = []
            for place in range(step * self.plan.batch_size, (step + 1) * self.plan.batch_size):
                from_warm, number = pick_pool(place, share)
                pool = self.warm if from_warm else self.everything if kind == "scans" else self.weak
                items.append(int(pool[self._permutation(number // len(pool), len(pool))[number % len(pool)]]))
            yield step, items

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def _permutation(self, epoch: int, count: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.plan.seed, epoch)).permutation(count)


@dataclass(frozen=True)
class SamplingPlan:
    """Settings that determine the frames of every step.

    Args:
        seed: of order and augmentation.
        steps: how many there are.
        batch_size: frames per step, over all processes.
        switch_step: the first step with weak targets; before it only frames with voxel labels are drawn.
        num_views: images with 2D labels per frame, from then on.
        augment: strengths of the augmentation.
        min_labelled_fraction: least share of frames with voxel labels after the switch, which are repeated for it.
        pretraining_steps: steps before all others that learn from the scans of any frame, without labels.
    """

    seed: int
    steps: int
    batch_size: int
    switch_step: int
    num_views: int
    augment: AugmentConfig
    min_labelled_fraction: float
    pretraining_steps: int = 0

    def target_kind(self, step: int) -> TargetKind:
        """The targets of a step's frames."""
        if step < self.pretraining_steps:
            return "scans"
        return "labels" if step < self.switch_step else "weak"
