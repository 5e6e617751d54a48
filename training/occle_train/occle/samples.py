# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames of data set folders as OccLE's training set.

Each sample has the images, scans and poses of several frames and aligned pseudo-labels; voxel annotations are read of the sampled
frames alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.completeness import require_frames
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.history import past_frames
from occle_core.networks.occle.config import OccleConfig
from occle_core.networks.occle.inputs import fit_camera, fit_image
from occle_core.taxonomy import IGNORE
from occle_train.data.samples import FrameCache
from occle_train.data.truth import TRUTHS, sensor_mask
from occle_train.losses.occle import frequency_weights
from occle_train.occle.objectives import Weights
from occle_train.occle.phases import OccleRecipeConfig
from occle_train.pseudo_labels.label_folder import LabelFolder


def every_nth(dataset: Dataset, every: int) -> list[int]:
    """Each n-th frame of a recording, by the recording's own numbers, from the first frame with a voxel truth on.

    A folder that lists each fifth frame alone (SSCBench-KITTI-360 without scans, `occle-train simulate --every 5`) gives all of its
    frames for `every` 5.
    """
    if not len(dataset):
        return []
    first = next((i for i in range(len(dataset)) if dataset.has_truth(i)), 0)
    return [i for i, number in enumerate(dataset.numbers) if (number - dataset.numbers[first]) % every == 0]


def interval_sample(count: int, share: float) -> list[int]:
    """Frames that keep their annotations, at even intervals, in the middle of each (OccLE, Sec. 4.1.1).

    Args:
        count: frames of the training set, sequence after sequence.
        share: of them that keep their annotations, above 0 and at most 1.

    Returns:
        round(count * share) ascending frame numbers, at least one of a set that is not empty.

    Raises:
        ValueError: the share lies outside 0..1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the annotated share must be above 0 and at most 1, not {share}")
    wanted = min(count, max(1, round(count * share)))
    # Exact: a float step lands on the wrong side of a frame in long sets.
    return [int(Fraction(count * (2 * number + 1), 2 * wanted)) for number in range(wanted)]


COUNTED = 300
"""Frames whose pseudo-labels are counted for the class weights, drawn evenly."""


class OccleSamples:
    """The training set of a recipe.

    Args:
        datasets: sequences or scenes, in order.
        grid: the voxels.
        network: what images and points are reduced to, and how many frames it sees.
        config: which frames, and which of them are annotated.
        labels: 2D pseudo-labels.
        memory: how much of what was read stays in memory, GiB.

    Attributes:
        index: (data set, frame) of every frame of the training set.
        annotated: numbers of those whose voxel annotations are used. The voxel truth of all others is never opened.

    Raises:
        DatasetError: nothing to train on, no frame with a voxel truth, other classes than the labels', or no poses for a network
            of several frames.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        grid: VoxelGrid,
        network: OccleConfig,
        config: OccleRecipeConfig,
        labels: LabelFolder,
        memory: float = 4.0,
    ) -> None:
        self.datasets, self.grid, self.network, self.labels = list(datasets), grid, network, labels
        self._find_truth = TRUTHS[config.truth]
        accumulated = config.truth == "accumulated"
        self.index = [(number, i) for number, data in enumerate(datasets) for i in every_nth(data, config.frame_interval)]
        could = [
            item
            for item, (number, i) in enumerate(self.index)
            if (datasets[number].pose(i) is not None if accumulated else datasets[number].has_truth(i))
        ]
        if not could:
            names = ", ".join(dataset.name for dataset in datasets) or "no data set"
            lacking = "pose, around which scans are accumulated" if accumulated else "voxel truth"
            raise DatasetError(f"no frame of {names} has a {lacking}; simulate some with occle-train simulate")
        self.annotated = [could[k] for k in interval_sample(len(could), config.annotated_fraction)]
        self._annotated_set = frozenset(self.annotated)
        self._memory = FrameCache(round(memory * 2**30))
        for dataset in datasets:
            if dataset.taxonomy.name != labels.taxonomy.name:
                raise DatasetError(f"{dataset.name} has classes of {dataset.taxonomy.name}, the labels of {labels.taxonomy.name}")
            if network.num_frames > 1 and all(dataset.pose(i) is None for i in range(len(dataset))):
                raise DatasetError(
                    f"{dataset.kind} {dataset.name} has no poses, which a network of {network.num_frames} frames needs"
                )
        require_frames((datasets[number], row) for number, i in self.index for row in self._rows(number, i))

    def __len__(self) -> int:
        return len(self.index)

    def frames(self, item: int) -> tuple[tuple[Frame, ...], tuple[NDArray[np.float64], ...]]:
        """A frame and those before it, newest first, with their poses T_world_lidar.

        Images have the network's size; of the points those are left that fall into the present grid, which is what `prepare` would
        do in every epoch. Past frames are those that the `Predictor` shows the network: a sequence's beginning has a shorter
        history, and frames without a pose are missing in it.
        """
        number, i = self.index[item]
        rows = self._rows(number, i)
        poses = [self.datasets[number].pose(k) for k in rows]
        # Only a frame that stands alone may lack its pose, and then any will do.
        known = tuple(np.eye(4) if pose is None else pose for pose in poses)
        held: tuple[Frame, ...] = self._memory.get(("frames", item), lambda: self._frames(number, rows, known))
        return held, known

    def describe(self, item: int) -> str:
        """A frame in words, for messages."""
        number, i = self.index[item]
        return f"sequence {self.datasets[number].name}, frame {self.datasets[number].numbers[i]}"

    def truth(self, item: int) -> Tensor:
        """(X, Y, Z) uint8 voxel annotation; all 255 for a frame that has none, whose truth stays unopened.

        Cells that no camera saw are unknown where the data set says which (Occ3D).
        """
        if item not in self._annotated_set:
            return torch.full(self.grid.shape, IGNORE, dtype=torch.uint8)
        held: NDArray[np.uint8] = self._memory.get(("truth", item), lambda: self._truth(*self.index[item]))
        return torch.from_numpy(held)

    def pixels(self, item: int) -> Tensor:
        """(V, H, W) uint8 pseudo-labels of the present images at the network's image size, 255 unlabelled."""
        held: NDArray[np.uint8] = self._memory.get(("pixels", item), lambda: self._pixels(*self.index[item]))
        return torch.from_numpy(held)

    def weights(self, free: int) -> Weights:
        """Class weights from the pseudo-labels of evenly drawn frames and the voxels of the annotated ones."""
        classes = self.labels.taxonomy.num_classes
        every = max(1, len(self) // COUNTED)
        pixels = sum(np.bincount(self.pixels(item).flatten(), minlength=256) for item in range(0, len(self), every))
        voxels = sum(np.bincount(self.truth(item).flatten(), minlength=256) for item in self.annotated)
        counts = torch.as_tensor(voxels)[:classes]
        geometry = torch.stack([counts[free], counts.sum() - counts[free]])
        return Weights(
            frequency_weights(torch.as_tensor(pixels)[:classes]), frequency_weights(counts), frequency_weights(geometry), free
        )

    def labelled(self) -> Sequence[int]:
        """Numbers of the frames whose voxel labels are used."""
        return self.annotated

    def provenance(self) -> dict[str, Any]:
        """The labels that were used, for the bundle's provenance."""
        names: dict[str, list[int]] = {}
        for number, i in (self.index[item] for item in self.annotated):
            names.setdefault(self.datasets[number].name, []).append(i)
        return {
            "voxel_labels": {"frames": len(self.annotated), "of": len(self), "which": names},
            "pseudo_labels": self.labels.source,
        }

    def _rows(self, number: int, i: int) -> list[int]:
        """The numbers of a frame and of those before it, newest first."""
        return past_frames(self.datasets[number], i, self.network.num_frames, self.network.frame_stride)

    def _frames(self, number: int, rows: Sequence[int], poses: Sequence[NDArray[np.float64]]) -> tuple[Frame, ...]:
        dataset, out = self.datasets[number], []
        for i, pose in zip(rows, poses):
            frame = dataset.frame(i)
            T_grid_lidar = dataset.T_grid_lidar @ np.linalg.inv(poses[0]) @ pose
            in_grid = (frame.points[:, :3] @ T_grid_lidar[:3, :3].T + T_grid_lidar[:3, 3]).astype(np.float32)
            points = frame.points[self.grid.index(in_grid)[1]]
            images = [None if image is None else fit_image(image, self.network) for image in frame.images]
            cameras = [fit_camera(camera, self.network) for camera in frame.cameras]
            # A scan may have left the present grid; a frame without any point would be malformed.
            kept = points if len(points) else frame.points[:1]
            out.append(replace(frame, points=kept, images=images, cameras=cameras, origins=None))
        return tuple(out)

    def _truth(self, number: int, i: int) -> NDArray[np.uint8]:
        dataset = self.datasets[number]
        truth = self._find_truth(dataset, i, self.grid)
        if truth is None:
            raise DatasetError(f"{dataset.name}: the voxel truth of frame {i} is gone since the sequence was opened")
        seen = sensor_mask(dataset, i, self.grid, ("camera",))
        return truth if seen is None else np.where(seen, truth, np.uint8(IGNORE))

    def _pixels(self, number: int, i: int) -> NDArray[np.uint8]:
        dataset, network = self.datasets[number], self.network
        out = np.full((network.num_cameras, network.height, network.width), IGNORE, np.uint8)
        found = 0
        for view, name in enumerate(dataset.camera_names):
            if self.labels.has(dataset, i, name):
                # Cropped labels are cut as their image is: they need the image's size.
                size = None if network.crop else (network.width, network.height)
                out[view] = fit_image(self.labels.read(dataset, i, name, size)[0], network, IGNORE, nearest=True)
                found += 1
        if not found and any(dataset.image_file(i, name) for name in dataset.camera_names):
            raise DatasetError(f"{self.labels.root} has no labels of {dataset.name}, frame {i}; make them with occle-train label")
        return out
