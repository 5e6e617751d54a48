# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What teaches frames without annotation and is made once, on disk.

A geometric teacher's confident predictions (Algorithm 1, phase II), and what accumulated scans, rays and lifted pseudo-labels say
of the cells; of the latter no voxel annotation is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from occle_core.datasets import DatasetError
from occle_core.datasets.files import warn_once
from occle_core.frame import FrameError
from occle_core.networks.occle.inputs import prepare
from occle_core.networks.occle.network import OccLE
from occle_core.taxonomy import IGNORE
from occle_train.data.array_files import write_arrays
from occle_train.occle.objectives import OccleBatch
from occle_train.occle.phases import OccleRecipeConfig, predict_teacher_labels
from occle_train.occle.samples import OccleSamples
from occle_train.process_group import ALONE, ProcessGroup
from occle_train.pseudo_labels.cell_folder import CellConfig, CellFolder, write_cells
from occle_train.worker_pool import Workers


class TeacherPredictions:
    """A teacher's predictions for the unannotated frames of a training set.

    Args:
        samples: the training set.
        folder: where they are kept, a file per frame.
    """

    def __init__(self, samples: OccleSamples, folder: Path) -> None:
        self.samples, self.folder = samples, folder
        self._annotated = frozenset(samples.annotated)

    @property
    def missing(self) -> list[int]:
        """Unannotated frames whose predictions are not there."""
        return [item for item in range(len(self.samples)) if item not in self._annotated and not self._file(item).is_file()]

    @torch.no_grad()
    def predict(self, teacher: OccLE, config: OccleRecipeConfig, device: str, group: ProcessGroup = ALONE) -> None:
        """Make those that are missing, from undisturbed inputs; of several processes each its share."""
        for item in self.missing:
            if item % group.size != group.rank:
                continue
            try:
                inputs = prepare(*self.samples.frames(item), self.samples.grid, self.samples.network)
            except FrameError as error:  # the training leaves it out as well
                warn_once(f"{self.samples.describe(item)}: the teacher has no prediction: {error}")
                continue
            nothing = torch.empty(0, dtype=torch.uint8, device=device)
            found = predict_teacher_labels(teacher, OccleBatch(inputs.to(device), nothing, nothing), config)[0].cpu().numpy()
            write_arrays(self._file(item), {"occupied": np.packbits(found == 1), "sure": np.packbits(found != IGNORE)})

    def __call__(self, item: int) -> Tensor:
        """(X, Y, Z) uint8: 1 occupied, 0 free, 255 unsure; all 255 for an annotated frame, which needs no teacher."""
        shape = self.samples.grid.shape
        if item in self._annotated:
            return torch.full(shape, IGNORE, dtype=torch.uint8)
        with np.load(self._file(item)) as content:
            count = int(np.prod(shape))
            occupied, sure = (np.unpackbits(content[name], count=count) for name in ("occupied", "sure"))
        return torch.from_numpy(np.where(sure == 1, occupied, np.uint8(IGNORE)).reshape(shape))

    def _file(self, item: int) -> Path:
        number, i = self.samples.index[item]
        dataset = self.samples.datasets[number]
        return self.folder / dataset.name / f"{dataset.numbers[i]:06d}.npz"


def scan_evidence(
    samples: OccleSamples, folder: Path, config: OccleRecipeConfig, processes: int, group: ProcessGroup = ALONE
) -> ScanEvidence | None:
    """What scans and pixels say of the frames, where the recipe asks for it and some frames have no annotation.

    Raises:
        DatasetError: see `ScanEvidence`.
    """
    if config.voxel_pseudo_labels is None or len(samples.annotated) == len(samples):
        return None
    try:
        return ScanEvidence(samples, folder, config.voxel_pseudo_labels, group, max(1, processes))
    except DatasetError as error:
        raise DatasetError(f"{error}; or train without voxel pseudo-labels: --set recipe.voxel_pseudo_labels=null") from error


class ScanEvidence:
    """3D pseudo-labels of the frames of a training set, see `occle_train.pseudo_labels.cell_folder`.

    Args:
        samples: the training set.
        folder: where they are kept; those that are missing are made, by several processes each its share.
        config: see CellConfig.
        group: the processes that train together.
        processes: how many share that work on this machine, for each that trains.

    Raises:
        DatasetError: the folder holds some of other settings, or a sequence has no poses.
    """

    def __init__(self, samples: OccleSamples, folder: Path, config: CellConfig, group: ProcessGroup, processes: int = 1) -> None:
        self.samples = samples
        # Neighbours share scans, so that each process gets frames that follow each other.
        first, end = (len(samples) * place // group.size for place in (group.rank, group.rank + 1))
        share = frozenset(samples.index[first:end])
        workers = Workers(processes)
        write_cells(folder, samples.datasets, samples.grid, samples.labels, config, workers=workers, frames=share)
        group.wait()  # for the others' shares
        self._cells = CellFolder(folder)

    def __call__(self, item: int) -> Tensor:
        """(2, X, Y, Z) uint8: occupancy (1 points, 0 rays, 255 neither) and lifted classes (255 none); all 255 without a pose."""
        number, i = self.samples.index[item]
        if not self._cells.has(self.samples.datasets[number], i):
            return torch.full((2, *self.samples.grid.shape), IGNORE, dtype=torch.uint8)
        cells = self._cells.read(self.samples.datasets[number], i)
        return torch.stack([torch.from_numpy(cells.occupancy), torch.from_numpy(cells.classes)])
