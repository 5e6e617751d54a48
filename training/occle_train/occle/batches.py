# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training batches of OccLE's phases: the frames of a step, augmented and prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from occle_core.networks.occle.inputs import OccleInputs, collate, prepare
from occle_train.loop.sampling import first_usable, pick_pool
from occle_train.occle.augment import OccleAugment, augment_frame, max_points
from occle_train.occle.objectives import OccleBatch
from occle_train.occle.phases import OccleRecipeConfig, Phase
from occle_train.occle.samples import OccleSamples
from occle_train.process_group import ALONE, ProcessGroup

NONE = OccleAugment()
"""Table 1 is about the geometric branch: the semantic one and the fusion learn from undisturbed frames."""


class PhaseBatches(TorchDataset[OccleBatch]):
    """A phase's batches, addressed by (step, frames): the same address gives the same batch.

    Args:
        samples: the training set.
        phase: decides the augmentation.
        config: strengths and seed.
        teacher_labels: (X, Y, Z) uint8 of a frame from its teacher; only students have one.
        evidence: (2, X, Y, Z) uint8 of a frame, see `ScanEvidence`; only for phase III with voxel pseudo-labels.
        group: each process makes its share of a batch.
    """

    def __init__(
        self,
        samples: OccleSamples,
        phase: Phase,
        config: OccleRecipeConfig,
        teacher_labels: Callable[[int], Tensor] | None = None,
        group: ProcessGroup = ALONE,
        evidence: Callable[[int], Tensor] | None = None,
    ) -> None:
        self.group = group
        self.samples, self.phase, self.config, self.teacher_labels = samples, phase, config, teacher_labels
        self.evidence = evidence
        self._annotated = frozenset(samples.annotated)
        self.augment = {"teacher": config.teacher_augment, "student": config.student_augment}.get(phase, NONE)

    def __getitem__(self, address: tuple[int, list[int]]) -> OccleBatch:
        """The batch of a step and its frames."""
        step, items = address
        samples, rng = self.samples, _generator(self.config, self.phase, step)
        # The same for all frames of a batch: it is the width of their tables.
        most = max_points(samples.network.scan.max_points, self.augment, rng)
        items, inputs = self._usable(step, items, most)
        labels, truth = (torch.stack([read(item) for item in items]) for read in (samples.pixels, samples.truth))
        teacher_labels = torch.stack([self.teacher_labels(item) for item in items]) if self.teacher_labels else None
        evidence = torch.stack([self.evidence(item) for item in items]) if self.evidence else None
        return OccleBatch(inputs, labels, truth, teacher_labels, evidence)

    def _usable(self, step: int, items: list[int], most: int) -> tuple[list[int], OccleInputs]:
        """This process's frames, each replaced by the next one that serves where no point of it lies in the grid; their inputs."""
        samples, found = self.samples, []
        for number, item in enumerate(items):
            if number % self.group.size != self.group.rank:
                continue
            rng = _generator(self.config, self.phase, step, number, 1)

            def make(item: int, rng: np.random.Generator = rng) -> tuple[int, OccleInputs]:
                return item, disturbed_inputs(samples, item, self.augment, most, rng)

            # Annotated frames stay annotated: nothing else supervises the teacher.
            pool = samples.annotated if item in self._annotated else range(len(samples))
            found.append(first_usable(item, pool, make, samples.describe))
        return [item for item, _ in found], collate([inputs for _, inputs in found])


class PhaseSampler:
    """The frames of every step of a phase from `first` on, for a sampler: each pass over a set is a permutation of its own.

    Args:
        samples: the training set.
        phase: which one.
        config: seed, batch size, and what `annotated_share` looks at.
        first, steps: the step to begin with, and how many there are in all.
    """

    def __init__(self, samples: OccleSamples, phase: Phase, config: OccleRecipeConfig, first: int, steps: int) -> None:
        self.annotated, self.all = np.array(samples.annotated), np.arange(len(samples))
        self.phase, self.config, self.first, self.steps = phase, config, first, steps

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        size, share = self.config.batch_size, annotated_share(self.phase, self.config)
        for step in range(self.first, self.steps):
            items = []
            for place in range(step * size, (step + 1) * size):
                annotated, number = pick_pool(place, share)
                pool = self.annotated if annotated else self.all
                items.append(int(pool[self._permutation(number // len(pool), len(pool))[number % len(pool)]]))
            yield step, items

    def __len__(self) -> int:
        return self.steps - self.first

    def _permutation(self, epoch: int, count: int) -> NDArray[np.int64]:
        return _generator(self.config, self.phase, count, epoch).permutation(count)


def annotated_share(phase: Phase, config: OccleRecipeConfig) -> float:
    """Share of a phase's places that are drawn from the annotated frames alone.

    All where nothing but annotations supervises the phase; `repeat` where there are annotations among other supervision.
    """
    nothing_else = phase == "fusion" and {"semantic", "projection"} <= set(config.ablate)
    if phase == "teacher" or nothing_else:
        return 1.0
    return (
        config.min_annotated_fraction if phase == "student" or (phase == "fusion" and "annotations" not in config.ablate) else 0.0
    )


def steps_of(samples: OccleSamples, phase: Phase, config: OccleRecipeConfig) -> int:
    """Number of steps of a phase; a pass goes over the annotated frames where no others are drawn."""
    return config.steps_of(phase, len(samples.annotated) if annotated_share(phase, config) == 1 else len(samples))


def disturbed_inputs(samples: OccleSamples, item: int, augment: OccleAugment, most: int, rng: np.random.Generator) -> OccleInputs:
    """A frame's inputs, its images and points and those of its history disturbed, with at most `most` points per voxel."""
    frames, poses = samples.frames(item)
    network = samples.network
    if augment != NONE:
        frames = tuple(augment_frame(frame, augment, rng) for frame in frames)
        network = network.model_copy(update={"scan": network.scan.model_copy(update={"max_points": most})})
    return prepare(frames, poses, samples.grid, network)


def _generator(config: OccleRecipeConfig, phase: Phase, *address: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, crc32(phase.encode()), *address))
