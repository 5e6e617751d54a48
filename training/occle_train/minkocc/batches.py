"""Training batches of MinkOcc: the frames of a step, augmented and prepared."""

from __future__ import annotations

from collections.abc import Callable
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
from occle_train.data.samples import SOLID, Sample, Samples
from occle_train.data.views import BatchView, batch_view
from occle_train.loop.parallel import ProcessGroup
from occle_train.loop.sampling import SamplingPlan, first_usable


@dataclass
class MinkOccBatch:
    """Inputs and targets of a training step; B frames.

    Attributes:
        inputs: the network's.
        labels: (B, X, Y, Z) uint8 class ids, 255 unknown; all 255 for a frame without voxel labels.
        lifted: (B, X, Y, Z) uint8 class ids that points took from labelled pixels, 255 none; all 255 for a frame with voxel labels.
        occupancy: (B, X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown; from the labels where a frame has them.
        views: 2D labels.
    """

    inputs: MinkOccInputs
    labels: Tensor
    lifted: Tensor
    occupancy: Tensor
    views: list[BatchView]

    def map(self, function: Callable[[Tensor], Tensor]) -> MinkOccBatch:
        """The same batch with a function applied to each tensor."""
        views = [replace(view, labels=function(view.labels), confidence=function(view.confidence)) for view in self.views]
        labels, lifted, occupancy = (function(volume) for volume in (self.labels, self.lifted, self.occupancy))
        return MinkOccBatch(self.inputs.map(function), labels, lifted, occupancy, views)

    def pin_memory(self) -> MinkOccBatch:
        """The same in pinned memory, from which a GPU copies while the CPU goes on; called by the DataLoader."""
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
        labels, lifted, occupancy, views = [], [], [], []
        for number, item in enumerate(items):
            if number % self.group.size != self.group.rank:
                continue
            sample, frame, target, chosen, inputs = self._usable(item, step, number)
            views += [batch_view(sample.views[view], len(parts), frame.T_grid_lidar) for view in chosen]
            parts.append(inputs)
            voxels = torch.from_numpy(target)
            nothing = torch.full_like(voxels, IGNORE)
            surfaces = torch.where((voxels == SOLID) | (voxels == self.free), nothing, voxels)
            labels.append(voxels if sample.labelled else nothing)
            lifted.append(nothing if sample.labelled else surfaces)
            occupancy.append(torch.where(voxels == IGNORE, IGNORE, voxels != self.free).to(torch.uint8))
        return MinkOccBatch(collate(parts), torch.stack(labels), torch.stack(lifted), torch.stack(occupancy), views)

    def _usable(
        self, item: int, step: int, number: int
    ) -> tuple[Sample, Frame, NDArray[np.uint8], NDArray[np.integer], MinkOccInputs]:
        """A frame's sample, its augmented sensors and labels, the numbers of its views, and its inputs.

        Those of the next frame where no point of this one lies in the grid.
        """
        weak = step >= self.plan.switch_step

        def make(candidate: int) -> tuple[Sample, Frame, NDArray[np.uint8], NDArray[np.integer], MinkOccInputs]:
            rng = np.random.default_rng((self.plan.seed, step, number))
            sample = self.samples.sample(candidate, weak)
            frame, target = augment(sample.frame, sample.target, self.grid, self.plan.augment, rng)
            chosen = rng.permutation(len(sample.views))[: self.plan.num_views]
            return sample, frame, target, chosen, prepare(frame, self.grid, self.network)

        pool = range(len(self.samples)) if weak else self.samples.warm
        return first_usable(item, pool, make, self.samples.describe)
