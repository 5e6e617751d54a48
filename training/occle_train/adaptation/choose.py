# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Which frames to label: those whose prediction disagrees with the frames around them, and that differ from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset
from occle_core.networks.minkocc.network import MinkOcc
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.targets import occupied_cells, votes_for
from occle_train.adaptation.teacher import Teacher
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that may be labelled.

    Args:
        scene, number: of the frame.
        disagreement: 0..1, mean total variation distance between the classes that the frame itself predicts and those that it
            and its neighbours vote for, over the occupied cells.
        classes: (C,) shares of the classes in the votes, sum 1: what the frame shows.
    """

    scene: str
    number: int
    disagreement: float
    classes: NDArray[np.floating]


def candidates(
    spec: BundleSpec,
    network: MinkOcc,
    datasets: Sequence[Dataset],
    config: AdaptConfig,
    device: str = "cpu",
    on_progress: Callable[[], None] = lambda: None,
) -> list[Candidate]:
    """All frames that have a pose and something in the grid; no label is read.

    Args:
        spec, network: of a bundle; the network is in evaluation mode, on `device`.
        datasets: sequences with poses.
        config: how many frames around each vote.
        device: torch's name of the device.
        on_progress: called after every frame.
    """
    found = []
    alone = config.model_copy(update={"past_frames": 0, "future_frames": 0})
    for dataset in (UnlabelledDataset(data, config.rays) for data in datasets):
        teacher = Teacher(spec, network, dataset, config.past_frames + config.future_frames + 2, device)
        for i in range(len(dataset)):
            if dataset.pose(i) is not None and teacher.volume(i) is not None:
                occupancy = occupied_cells(dataset, i, spec, config)
                votes = votes_for(dataset, i, occupancy, spec, config, teacher.volume)
                own = votes_for(dataset, i, occupancy, spec, alone, teacher.volume)
                both = (votes.sum(1) > 0) & (own.sum(1) > 0)
                if both.any():
                    differing = float(0.5 * np.abs(votes[both] - own[both]).sum(1).mean())
                    found.append(Candidate(dataset.name, dataset.numbers[i], differing, votes[both].mean(0)))
            on_progress()
    return found


def choose(frames: Sequence[Candidate], budget: int) -> list[int]:
    """Numbers of the chosen candidates, the most useful first: greedy, by disagreement times the distance to those chosen before.

    The distance is Hellinger's between the classes that frames show. The first is the one that disagrees most.

    Args:
        frames: the candidates.
        budget: how many are wanted; all are chosen where there are fewer.
    """
    disagreement = np.array([frame.disagreement for frame in frames])
    roots = np.sqrt(np.array([frame.classes for frame in frames]))
    nearest, chosen = np.ones(len(frames)), list[int]()
    for _ in range(min(budget, len(frames))):
        gain = disagreement * nearest
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(roots - roots[best], axis=1) / np.sqrt(2))
    return chosen
