# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bias of the free class by ray evidence: the occupancy that scans and poses show decides, no label is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from occle_core.networks.minkocc.inputs import MinkOccInputs
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.taxonomy import IGNORE

STEPS = tuple(0.25 * number for number in range(-8, 9))
"""Candidates: -2 to 2."""


@torch.no_grad()
def choose_occupancy_bias(
    network: MinkOcc, frames: Iterable[tuple[MinkOccInputs, NDArray[np.uint8]]], free: int, steps: Sequence[float] = STEPS
) -> float:
    """The number that gives the best completion IoU when it is added to the free class's logit.

    Args:
        network: in evaluation mode, on the CPU.
        frames: single frames' inputs and targets (X, Y, Z) uint8: free's id, 255 unknown, all else occupied.
        free: id of the free class.
        steps: what is tried.

    Returns:
        one of `steps`; of equally good ones the nearest to 0, and 0 without frames.
    """
    counts = np.zeros((len(steps), 2), np.int64)  # both occupied, either occupied
    for inputs, target in frames:
        found = network(inputs).classes
        logits = found.features.float()
        margin = logits.index_fill(1, torch.tensor([free]), -torch.inf).amax(1) - logits[:, free]
        volume = found.coordinates.volume(margin, -torch.inf)[0].numpy()
        known, occupied = target != IGNORE, (target != IGNORE) & (target != free)
        for number, step in enumerate(steps):
            said = (volume > step) & known
            counts[number] += (said & occupied).sum(), (said | occupied).sum()
    scores = counts[:, 0] / np.maximum(counts[:, 1], 1)
    return max(zip(scores.tolist(), steps), key=lambda pair: (pair[0], -abs(pair[1])))[1] if counts.any() else 0.0
