# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The teacher's class probabilities around a cell, averaged over past and future frames in world coordinates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset
from occle_core.frame import FrameError
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_train.data.samples import read_frame
from occle_train.minkocc.fit import minkocc_config
from occle_train.pseudo_labels.unlabelled import recording_of


@dataclass(frozen=True, eq=False)
class ClassVolume:
    """Class probabilities on the cells of a grid, free left out.

    Args:
        row: (X, Y, Z) int32 row of a cell in `probabilities`; 0, a row of zeros, where the network pruned the cell.
        probabilities: (N, C) float32: of each class, given that the cell is occupied; 0 for free.
    """

    row: NDArray[np.int32]
    probabilities: NDArray[np.float32]


class Teacher:
    """A network's predictions on the frames of a sequence; those of the last frames are kept.

    Args:
        spec, network: of a bundle; the network is in evaluation mode.
        dataset: the sequence.
        keep: frames whose predictions stay in memory.
        device: torch's name of the device.
    """

    def __init__(self, spec: BundleSpec, network: MinkOcc, dataset: Dataset, keep: int, device: str = "cpu") -> None:
        self.spec, self.network, self.dataset, self.keep, self.device = spec, network, dataset, keep, device
        self._free = taxonomy.load(spec.taxonomy).free
        self._held: OrderedDict[int, ClassVolume | None] = OrderedDict()

    def volume(self, i: int) -> ClassVolume | None:
        """The prediction for frame `i`; None where nothing of it lies in the grid."""
        if i not in self._held:
            self._held[i] = self._predicted(i)
            while len(self._held) > self.keep:
                self._held.popitem(last=False)
        return self._held[i]

    @torch.inference_mode()
    def _predicted(self, i: int) -> ClassVolume | None:
        try:
            config = minkocc_config(self.spec)
            inputs = prepare(read_frame(recording_of(self.dataset), i, config), self.spec.voxel_grid, config)
        except FrameError:
            return None
        classes = self.network(inputs.to(self.device)).classes
        logits = classes.features.float().index_fill(1, torch.tensor([self._free], device=self.device), -torch.inf)
        rows = torch.arange(1, len(logits) + 1, dtype=torch.float32, device=self.device)
        row = classes.coordinates.volume(rows, 0)[0].to(torch.int32).cpu().numpy()
        values = logits.softmax(1).cpu().numpy()
        return ClassVolume(row, np.concatenate([np.zeros((1, values.shape[1]), np.float32), values]))


def accumulated_votes(
    dataset: Dataset,
    index: int,
    cells: NDArray[np.integer],
    in_motion: NDArray[np.bool_],
    spec: BundleSpec,
    volume_of: Callable[[int], ClassVolume | None],
    before: int,
    after: int,
) -> NDArray[np.float32]:
    """Class probabilities of cells around frame `index`: the mean of what the frames around it predict at the cells' centres.

    Args:
        dataset: a sequence with poses.
        index: the frame whose grid the cells are of.
        cells: (N, 3) their indices.
        in_motion: (N,) those that hold something in motion: only frame `index` votes for them.
        spec: whose grid it is.
        volume_of: the prediction for a frame, None where there is none.
        before, after: how many frames around it vote.

    Returns:
        (N, C), rows sum to 1, or to 0 where no frame predicts anything occupied.
    """
    grid = spec.voxel_grid
    centers = grid.centers(cells).astype(np.float64)
    votes = np.zeros((len(cells), taxonomy.load(spec.taxonomy).num_classes), np.float32)
    for i in range(max(0, index - before), min(len(dataset), index + after + 1)):
        T = T_grid_grid(dataset, i, index)
        volume = volume_of(i) if T is not None else None
        if T is None or volume is None:
            continue
        ijk, inside = grid.index(centers @ T[:3, :3].T + T[:3, 3])
        inside &= (i == index) | ~in_motion
        votes[inside] += volume.probabilities[volume.row[tuple(ijk[inside].T)]]
    total = votes.sum(1, keepdims=True)
    return np.asarray(np.divide(votes, total, out=np.zeros_like(votes), where=total > 0), np.float32)


def T_grid_grid(dataset: Dataset, target: int, source: int) -> NDArray[np.float64] | None:
    """(4, 4), maps the grid frame of scan `source` into that of scan `target`; None where a pose is missing."""
    pose, there = dataset.pose(source), dataset.pose(target)
    if source == target:
        return np.eye(4)
    if pose is None or there is None:
        return None
    T_grid_lidar = dataset.T_grid_lidar
    return np.asarray(T_grid_lidar @ np.linalg.inv(there) @ pose @ np.linalg.inv(T_grid_lidar))
