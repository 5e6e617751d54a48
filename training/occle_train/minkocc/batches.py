# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training batches of MinkOcc: the frames of a step, augmented and prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.inputs import MinkOccInputs, collate, prepare
from occle_core.taxonomy import IGNORE
from occle_train.data.augment import augment
from occle_train.data.samples import SOLID, Samples, TargetKind, View
from occle_train.data.scan_mixing import mix_scans
from occle_train.data.views import BatchView, PixelLabels, batch_view, follow_image, stack_pixels
from occle_train.loop.sampling import SamplingPlan, first_usable
from occle_train.process_group import ProcessGroup


@dataclass
class MinkOccBatch:
    """Inputs and targets of a training step; B frames.

    Attributes:
        inputs: the network's.
        labels: (B, X, Y, Z) uint8 class ids, 255 unknown; all 255 for a frame without voxel labels.
        lifted: (B, X, Y, Z) uint8 class ids that points took from labelled pixels, 255 none; all 255 for a frame with voxel labels.
        occupancy: (B, X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown; from the labels where a frame has them.
        views: 2D labels.
        pixels: (B, V, H, W) uint8 class ids of the images' pixels, 255 unlabelled, and float32 confidences; None if none are read.
        evidence: (B, X, Y, Z) uint8: what scans and votes say of a labelled frame, as a weak target (`Sample.evidence`), all 255
            for others; None where no frame has any.
    """

    inputs: MinkOccInputs
    labels: Tensor
    lifted: Tensor
    occupancy: Tensor
    views: list[BatchView]
    pixels: tuple[Tensor, Tensor] | None = None
    evidence: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> MinkOccBatch:
        """The same batch with a function applied to each tensor."""
        views = [replace(view, labels=function(view.labels), confidence=function(view.confidence)) for view in self.views]
        labels, lifted, occupancy = (function(volume) for volume in (self.labels, self.lifted, self.occupancy))
        pixels = None if self.pixels is None else (function(self.pixels[0]), function(self.pixels[1]))
        evidence = None if self.evidence is None else function(self.evidence)
        return MinkOccBatch(self.inputs.map(function), labels, lifted, occupancy, views, pixels, evidence)

    def pin_memory(self) -> MinkOccBatch:
        """The same in pinned memory, from which a GPU copies while the CPU continues; called by the DataLoader."""
        return self.map(Tensor.pin_memory)

    def to(self, device: str) -> MinkOccBatch:
        """The same tensors on another device; out of pinned memory without waiting."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


class TrainingSet(TorchDataset[MinkOccBatch]):
    """Augmented batches, addressed by (step, frames): the same address gives the same batch.

    Args:
        samples: the frames.
        grid, network: what they are prepared for.
        plan: how.
        free: id of the free class.
        group: each process makes its share of a batch.
    """

    def __init__(
        self, samples: Samples, grid: VoxelGrid, network: MinkOccConfig, plan: SamplingPlan, free: int, group: ProcessGroup
    ) -> None:
        self.samples, self.grid, self.network, self.plan, self.free, self.group = samples, grid, network, plan, free, group

    def __getitem__(self, address: tuple[int, list[int]]) -> MinkOccBatch:
        """The batch of a step and its frames."""
        step, items = address
        parts: list[MinkOccInputs] = []
        targets, views, pixels, evidence = [], [], [], []
        for number, item in enumerate(items):
            if number % self.group.size != self.group.rank:
                continue
            part, inputs = self._usable(item, step, number)
            views += [batch_view(view, len(parts), part.frame.T_grid_lidar) for view in part.views]
            parts.append(inputs)
            targets.append((part.labels, part.lifted, part.occupancy))
            pixels.append(part.pixels)
            evidence.append(part.evidence)
        labels, lifted, occupancy = (torch.from_numpy(np.stack(volumes)) for volumes in zip(*targets))
        batch = MinkOccBatch(collate(parts), labels, lifted, occupancy, views)
        if any(volume is not None for volume in evidence):
            nothing = np.full(self.grid.shape, IGNORE, np.uint8)
            batch.evidence = torch.from_numpy(np.stack([nothing if volume is None else volume for volume in evidence]))
        if self.samples.pixel_size is not None:
            batch.pixels = stack_pixels(pixels, self.network.image.num_cameras, self.samples.pixel_size)
        return batch

    def _usable(self, item: int, step: int, number: int) -> tuple[_Part, MinkOccInputs]:
        """An augmented frame with its targets, and its inputs: of the next frame where no point of this one lies in the grid."""
        kind = self.plan.target_kind(step)
        pool: Sequence[int] = self.samples.warm if kind == "labels" else range(len(self.samples))

        def make(candidate: int) -> tuple[_Part, MinkOccInputs]:
            rng = np.random.default_rng((self.plan.seed, step, number))
            part = self._augmented(candidate, kind, rng)
            mixing = self.plan.augment.scan_mix_prob
            if mixing and rng.random() < mixing:
                part = part.mixed(self._augmented(pool[int(rng.integers(len(pool)))], kind, rng), self.grid, rng)
            return part, prepare(part.frame, self.grid, self.network)

        return first_usable(item, pool, make, self.samples.describe)

    def _augmented(self, item: int, kind: TargetKind, rng: np.random.Generator) -> _Part:
        sample = self.samples.sample(item, kind)
        volumes = np.stack([sample.target, *(() if sample.evidence is None else (sample.evidence,))], -1)
        frame, volumes = augment(sample.frame, volumes, self.grid, self.plan.augment, rng)
        target, *evidence = (np.ascontiguousarray(volume) for volume in np.moveaxis(volumes, -1, 0))
        chosen = rng.permutation(len(sample.views))[: self.plan.num_views]
        nothing = np.full_like(target, IGNORE)
        surfaces = np.where((target == SOLID) | (target == self.free), nothing, target)
        return _Part(
            frame,
            target if sample.labelled else nothing,
            nothing if sample.labelled else surfaces,
            np.where(target == IGNORE, np.uint8(IGNORE), target != self.free).astype(np.uint8),
            [sample.views[view] for view in chosen],
            [
                None if labels is None else follow_image(labels, image, camera)
                for labels, image, camera in zip(sample.pixels, frame.images, frame.cameras)
            ],
            evidence[0] if evidence else None,
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """A frame of a batch with its targets, as in MinkOccBatch but without the batch axis."""

    frame: Frame
    labels: NDArray[np.uint8]
    lifted: NDArray[np.uint8]
    occupancy: NDArray[np.uint8]
    views: list[View]
    pixels: list[PixelLabels | None]
    evidence: NDArray[np.uint8] | None = None

    def mixed(self, other: _Part, grid: VoxelGrid, rng: np.random.Generator) -> _Part:
        """This one with a sector of another's scan and targets, without images and views."""
        frame, theirs = mix_scans(self.frame, other.frame, grid, rng)

        def sector(own: NDArray[np.uint8], foreign: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.where(theirs, foreign, own)

        labels, lifted = sector(self.labels, other.labels), sector(self.lifted, other.lifted)
        return _Part(frame, labels, lifted, sector(self.occupancy, other.occupancy), [], [])
