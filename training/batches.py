"""Which frames a step sees, and what is made of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from occle_core.camera import Camera
from occle_core.config import NetworkConfig
from occle_core.datasets import DatasetError
from occle_core.datasets.files import warn_once
from occle_core.frame import Frame, FrameError
from occle_core.grid import VoxelGrid
from occle_core.inputs import Inputs, collate, prepare
from occle_core.taxonomy import IGNORE
from training.augment import AugmentConfig, augment
from training.parallel import Group
from training.samples import SOLID, Sample, Samples, View

T = TypeVar("T")


@dataclass
class BatchView:
    """Labels of one image of a batch.

    Attributes:
        frame: which frame of the batch.
        camera: maps from the frame's (augmented) grid.
        labels: (H, W) uint8 class ids, 255 unlabelled.
        confidence: (H, W) float32.
    """

    frame: int
    camera: Camera
    labels: Tensor
    confidence: Tensor


@dataclass
class Batch:
    """What a step trains on; B frames.

    Attributes:
        inputs: the network's.
        labels: (B, X, Y, Z) uint8 class ids, 255 unknown; all 255 for a frame without voxel labels.
        lifted: (B, X, Y, Z) uint8 class ids that points took from labelled pixels, 255 none; all 255 for a frame with voxel labels.
        occupancy: (B, X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown; from the labels where a frame has them.
        views: 2D labels.
    """

    inputs: Inputs
    labels: Tensor
    lifted: Tensor
    occupancy: Tensor
    views: list[BatchView]

    def to(self, device: str) -> Batch:
        """The same tensors on another device."""
        views = [replace(view, labels=view.labels.to(device), confidence=view.confidence.to(device)) for view in self.views]
        labels, lifted, occupancy = (volume.to(device) for volume in (self.labels, self.lifted, self.occupancy))
        return Batch(self.inputs.to(device), labels, lifted, occupancy, views)


@dataclass(frozen=True)
class Plan:
    """What the frames of every step depend on.

    Args:
        seed: of order and augmentation.
        steps: how many there are.
        batch_size: frames per step, over all processes.
        switch: the first step with weak targets; before it only frames with voxel labels are drawn.
        views: images with 2D labels per frame, from then on.
        augment: strengths of the augmentation.
        repeat: least share of frames with voxel labels after the switch, which are repeated for it.
    """

    seed: int
    steps: int
    batch_size: int
    switch: int
    views: int
    augment: AugmentConfig
    repeat: float


class TrainingSet(TorchDataset[Batch]):
    """Augmented batches, addressed by (step, frames): the same address gives the same batch.

    Args:
        samples: the frames.
        grid, network: what they are prepared for.
        plan: how.
        free: id of the free class.
        group: each process makes its share of a batch.
    """

    def __init__(self, samples: Samples, grid: VoxelGrid, network: NetworkConfig, plan: Plan, free: int, group: Group) -> None:
        self.samples, self.grid, self.network, self.plan, self.free, self.group = samples, grid, network, plan, free, group

    def __getitem__(self, address: tuple[int, list[int]]) -> Batch:
        """The batch of a step and its frames."""
        step, items = address
        parts: list[Inputs] = []
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
        return Batch(collate(parts), torch.stack(labels), torch.stack(lifted), torch.stack(occupancy), views)

    def _usable(self, item: int, step: int, number: int) -> tuple[Sample, Frame, NDArray[np.uint8], NDArray[np.integer], Inputs]:
        """A frame's sample, its augmented sensors and labels, the numbers of its views, and its inputs; of the next frame where no
        point of this one lies in the grid."""
        weak = step >= self.plan.switch

        def make(candidate: int) -> tuple[Sample, Frame, NDArray[np.uint8], NDArray[np.integer], Inputs]:
            rng = np.random.default_rng((self.plan.seed, step, number))
            sample = self.samples.sample(candidate, weak)
            frame, target = augment(sample.frame, sample.target, self.grid, self.plan.augment, rng)
            chosen = rng.permutation(len(sample.views))[: self.plan.views]
            return sample, frame, target, chosen, prepare(frame, self.grid, self.network)

        pool = range(len(self.samples)) if weak else self.samples.warm
        return first_usable(item, pool, make, self.samples.describe)


def first_usable(item: int, pool: Sequence[int], make: Callable[[int], T], describe: Callable[[int], str]) -> T:
    """What is made of a frame or, where nothing can be made of it, of the next one in its pool that serves; each such frame is
    logged once.

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


def drawn(place: int, share: float) -> tuple[bool, int]:
    """From which of two sets the frame at a place of the order comes: a share of all places, evenly spread, is the first set's.

    Returns:
        whether it is the first set's, and how many places before it are of the same set.
    """
    before, after = math.floor(share * place), math.floor(share * (place + 1))
    return (True, before) if after > before else (False, place - before)


class Order:
    """The frames of every step from `first` on: each epoch is a permutation of its own.

    Args:
        count: how many frames there are.
        plan: seed, steps and batch size.
        first: the step to begin with.
        warm: the frames that may be drawn before the plan's switch; None for all.
    """

    def __init__(self, count: int, plan: Plan, first: int, warm: Sequence[int] | None = None) -> None:
        self.all, self.plan, self.first = np.arange(count), plan, first
        self.warm = self.all if warm is None else np.asarray(warm, np.int64)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for step in range(self.first, self.plan.steps):
            share = 1.0 if step < self.plan.switch else self.plan.repeat
            items = []
            for place in range(step * self.plan.batch_size, (step + 1) * self.plan.batch_size):
                from_warm, number = drawn(place, share)
                pool = self.warm if from_warm else self.all
                items.append(int(pool[self._permutation(number // len(pool), len(pool))[number % len(pool)]]))
            yield step, items

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def _permutation(self, epoch: int, count: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.plan.seed, epoch)).permutation(count)


def batch_view(view: View, frame: int, T_grid_lidar: NDArray[np.float64]) -> BatchView:
    """A view of frame number `frame` with a camera that maps from the (augmented) grid.

    What augmentation does to the images themselves does not concern their labels.
    """
    T_camera_grid = view.camera.T_camera_lidar @ np.linalg.inv(T_grid_lidar)
    camera = Camera(view.camera.K, T_camera_grid, view.camera.width, view.camera.height)
    return BatchView(frame, camera, torch.from_numpy(view.labels), torch.from_numpy(view.confidence))
