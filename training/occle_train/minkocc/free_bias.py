# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bias of the free class, measured on labelled frames after the training and put into the weights.

Class-balanced cross-entropy and pruning, which lets through what may be occupied, leave the free class too strong: predictions are
precise and miss cells. One number added to the free class's logit corrects that, and costs nothing at inference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from occle_core.networks.minkocc.inputs import MinkOccInputs
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.taxonomy import IGNORE
from occle_train.metrics.confusion import confusion, ratio

STEPS = tuple(-0.25 * number for number in range(17))
"""Candidates: 0 to -4. At -4 the odds of free are divided by 55."""

NEVER = -30.0
"""Logit that no other class falls below, and that a later training can still raise."""


@torch.no_grad()
def choose_free_bias(
    network: MinkOcc, frames: Iterable[tuple[MinkOccInputs, NDArray[np.uint8]]], free: int, steps: Sequence[float] = STEPS
) -> float:
    """The number that gives the best mIoU on frames when it is added to the free class's logit.

    Args:
        network: in evaluation mode, on the CPU.
        frames: single frames' inputs and labels (X, Y, Z) uint8, 255 unknown; training frames, never those of a validation.
        free: id of the free class.
        steps: what is tried.

    Returns:
        one of `steps`; the first of the best, and 0 without frames.
    """
    classes = network.head.out_features
    counts = np.zeros((len(steps), classes, classes), np.int64)
    for inputs, target in frames:
        found = network(inputs).classes
        logits = found.features.float()
        best, label = logits.index_fill(1, torch.tensor([free]), -torch.inf).max(1)
        for number, step in enumerate(steps):
            labels = torch.where(logits[:, free] + step >= best, free, label)
            volume = found.coordinates.volume(labels.float(), free)[0].numpy().astype(np.uint8)
            counts[number] += confusion(volume, target, target != IGNORE, classes)
    if not counts.any():
        return 0.0
    return steps[int(np.argmax([_miou(table, free) for table in counts]))]


def add_free_bias(network: MinkOcc, free: int, bias: float) -> None:
    """Add to the free class's logit, in the weights."""
    with torch.no_grad():
        network.head.bias[free] += bias


def never_free(network: MinkOcc, free: int) -> None:
    """Take the free class out of the class head, for a training that names no free cell to it: pruning alone says what is empty."""
    with torch.no_grad():
        network.head.weight[free] = 0
        network.head.bias[free] = NEVER


def _miou(table: NDArray[np.int64], free: int) -> float:
    """Mean over the classes but free that are there."""
    hits, truth, found = table.diagonal(), table.sum(1), table.sum(0)
    return float(np.mean([ratio(hits[c], truth[c] + found[c] - hits[c]) for c in range(len(table)) if c != free and truth[c]]))
