# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training set of the adaptation: simulated frames with truth, and recorded ones with the teacher's targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.files import read_npz, warn_once
from occle_core.frame import Frame
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.taxonomy import IGNORE
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.targets import carved_cells, occupied_cells, pixel_classes, target_of, votes_for
from occle_train.adaptation.teacher import Teacher
from occle_train.adaptation.thresholds import class_thresholds
from occle_train.data.array_files import cached_arrays, write_arrays
from occle_train.data.samples import Sample, Samples, TargetKind
from occle_train.data.truth import voxel_truth
from occle_train.loop.workers import cache_size
from occle_train.minkocc.fit import minkocc_config
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.pseudo_labels.lidar import OCCUPIED
from occle_train.pseudo_labels.lift import point_labels
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset, recording_of

OnProgress = Callable[[str], None]


class AdaptSamples(Samples):
    """Simulated frames with their truth; recorded frames with targets that `begin_round` wrote.

    Args:
        simulated: sequences with voxel truth and poses.
        recorded: sequences with poses; nothing but their scans, images and poses is read.
        spec: the network and its grid.
        config: see AdaptConfig.
        labels: label images of the recorded frames; None for the teacher alone.
        folder: of what is the same in every round.
        device: torch's name of the one that trains.

    Raises:
        DatasetError: a recorded sequence has no poses, or no simulated frame has a truth.
    """

    def __init__(
        self,
        simulated: Sequence[Dataset],
        recorded: Sequence[Dataset],
        spec: BundleSpec,
        config: AdaptConfig,
        labels: LabelFolder | None,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        self.spec, self.config, self.folder = spec, config, folder
        self.classes = taxonomy.load(spec.taxonomy)
        self.recorded = [UnlabelledDataset(dataset, config.rays) for dataset in recorded]
        self.simulated = list(simulated)
        self.labels: LabelFolder | None = labels
        self.targets: Path | None = None
        self._lifted: tuple[UnlabelledDataset, Any] | None = None
        memory = cache_size(config.num_workers, device)
        super().__init__([*self.simulated, *self.recorded], spec.voxel_grid, minkocc_config(spec), memory, "either")

    def _find(self) -> tuple[list[tuple[int, int]], Sequence[int]]:
        """Simulated frames that have a truth come first; recorded ones that have a pose follow."""
        index = [(n, i) for n, data in enumerate(self.simulated) for i in range(len(data)) if data.has_truth(i)]
        if not index:
            raise DatasetError("no simulated frame has voxel truth; make some with occle-train simulate")
        warm = range(len(index))
        for number, data in enumerate(self.recorded, len(self.simulated)):
            placed = [i for i in range(len(data)) if data.pose(i) is not None]
            if not placed:
                raise DatasetError(f"{data.kind} {data.name} has no poses: scans cannot be accumulated; leave it out")
            if len(placed) < len(data):
                warn_once(f"{data.name}: {len(data) - len(placed)} frames have no pose and are left out")
            index += [(number, i) for i in placed]
        self.weak = range(len(warm), len(index))
        return index, warm

    def begin_round(self, network: MinkOcc, folder: Path, device: str, on_progress: OnProgress = lambda text: None) -> None:
        """Make the targets of the recorded frames by a teacher, as far as they are not in the folder yet.

        Args:
            network: the teacher, in evaluation mode.
            folder: where this round's targets are kept.
            device: where the teacher runs.
            on_progress: called with a line now and then.
        """
        self.targets = folder
        thresholds = self._thresholds(network.to(device), folder, device, on_progress)
        for number, data in enumerate(self.recorded, len(self.simulated)):
            teacher = Teacher(self.spec, network, data, self._window, device)
            for item in (item for item in self.recorded_items if self.index[item][0] == number):
                if not self._file(folder, item).exists():
                    write_arrays(self._file(folder, item), self._made(item, teacher, thresholds))
            on_progress(f"targets of {data.name}")
        network.to("cpu")

    def sample(self, item: int, kind: TargetKind = "labels") -> Sample:
        """A simulated frame with its truth, or a recorded one with its target."""
        labelled = item in self._warm_set
        return Sample(self.frame(item), self.truth(item) if labelled else self.target(item), labelled)

    def _read(self, dataset: Dataset, i: int) -> Frame:
        """With the scans between the frames of a recording, as the network is to read them on the robot."""
        return super()._read(recording_of(dataset), i)

    def truth(self, item: int) -> NDArray[np.uint8]:
        """The voxel truth of a simulated frame.

        Raises:
            ValueError: the frame is recorded; nothing that people say of it is read.
        """
        if item not in self._warm_set:
            raise ValueError(f"frame {item} is recorded: its voxel labels must not be used")
        return super().truth(item)

    def target(self, item: int) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 of a recorded frame, see `target_of`."""
        assert self.targets is not None
        folder = self.targets
        held: NDArray[np.uint8] = self._memory.get(("target", folder, item), lambda: read_npz(self._file(folder, item))["target"])
        return held

    def pixel_counts(self, num_classes: int) -> NDArray[np.int64]:
        """(num_classes,) cells per class in the recorded frames' targets."""
        counts = np.zeros(256, np.int64)
        for item in self.recorded_items:
            counts += np.bincount(self.target(item).ravel(), minlength=256)
        counts[self.classes.free] = 0
        return counts[:num_classes]

    def provenance(self) -> Any:
        """What was learnt from."""
        return {
            "voxel_labels": f"{len(self.warm)} simulated frames",
            "recorded_frames": len(self.recorded_items),
            "label_images": self.labels.source if self.labels else None,
            "adaptation": self.config.model_dump(mode="json", exclude={"num_workers", "checkpoint_every"}),
        }

    @property
    def recorded_items(self) -> range:
        """Numbers of the recorded frames."""
        return range(len(self.warm), len(self))

    @property
    def _window(self) -> int:
        return self.config.past_frames + self.config.future_frames + 2

    def _made(self, item: int, teacher: Teacher, thresholds: NDArray[np.floating]) -> dict[str, NDArray[Any]]:
        number, i = self.index[item]
        data = self.recorded[number - len(self.simulated)]
        same = cached_arrays(self._file(self.folder, item), lambda: self._cells(data, i))
        occupancy = same["occupancy"]
        votes = votes_for(data, i, occupancy, self.spec, self.config, teacher.volume)
        target = target_of(occupancy, votes, same.get("pixels"), thresholds, self.classes, self.config.pixel_weight)
        return {"target": target}

    def _cells(self, data: UnlabelledDataset, i: int) -> dict[str, NDArray[Any]]:
        """What is the same in every round: occupancy, and the classes of label images."""
        found = {"occupancy": carved_cells(data, i, self.spec, self.config)}
        if self.labels is not None:
            found["pixels"] = pixel_classes(data, i, self.spec, self.config, self._point_labels(data))
        return found

    def _point_labels(self, data: UnlabelledDataset) -> Any:
        if self._lifted is None or self._lifted[0] is not data:
            labels = self.labels
            assert labels is not None
            self._lifted = data, lru_cache(self._window)(lambda i: point_labels(data, i, labels))
        return self._lifted[1]

    def _thresholds(self, network: MinkOcc, folder: Path, device: str, on_progress: OnProgress) -> NDArray[np.float64]:
        """Least confidence per class, measured on whole simulated drives."""
        config = self.config

        def made() -> dict[str, NDArray[Any]]:
            votes, truths = [], []
            frames = 0
            for data in self.simulated:
                if frames >= config.calibration_frames:
                    break
                frames += len(data)
                own = UnlabelledDataset(data, config.rays)
                teacher = Teacher(self.spec, network, own, self._window, device)
                for i in range(len(data)):
                    truth = voxel_truth(data, i, self.grid)
                    if truth is None or data.pose(i) is None:
                        continue
                    occupancy = occupied_cells(own, i, self.spec, config)
                    known = truth[occupancy == OCCUPIED]
                    use = (known != IGNORE) & (known != self.classes.free)
                    votes.append(votes_for(own, i, occupancy, self.spec, config, teacher.volume)[use])
                    truths.append(known[use])
                on_progress(f"thresholds on simulated {data.name}")
            found = class_thresholds(
                np.concatenate(votes), np.concatenate(truths), self.classes.num_classes, config.least_precision
            )
            return {"thresholds": found}

        return np.asarray(cached_arrays(folder / "thresholds.npz", made)["thresholds"])

    def _file(self, folder: Path, item: int) -> Path:
        number, i = self.index[item]
        data = self.datasets[number]
        return folder / f"{number - len(self.simulated):03d}-{data.name}" / f"{data.numbers[i]:06d}.npz"
