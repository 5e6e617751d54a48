# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Exponential moving average (EMA) of a network's weights, with a warm-up for short trainings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def warmed_decay(updates: int, decay: float) -> float:
    """Decay of the average after a number of updates: small at first, so that the random start is soon forgotten.

    Without the warm-up, 0.998 to the power of 300 leaves 55 % of the initial weights in the average of 300 steps.
    """
    return min(decay, (1 + updates) / (10 + updates))


def running_average(network: nn.Module, decay: float) -> AveragedModel:
    """The moving average of a network's weights and buffers; `update_parameters(network)` after every step."""

    def average(averaged: Any, current: Any, updates: Tensor | int) -> None:
        now = warmed_decay(int(updates), decay)
        if averaged[0].is_floating_point():
            get_ema_multi_avg_fn(now)(averaged, current, updates)  # type: ignore[no-untyped-call]
            return
        pairs = list(zip(averaged, current))
        if counters := [pair for pair in pairs if pair[0].ndim == 0]:
            # Of batch norms, which PyTorch would average one by one, with four launches each.
            mine, theirs = zip(*counters)
            mixed = torch.stack(mine) * now + torch.stack(theirs) * (1 - now)
            torch._foreach_copy_(list(mine), list(mixed.to(mine[0].dtype).unbind()))
        for own, other in pairs:
            if own.ndim:
                own.copy_(other)  # a table of indices, whose mean would be rounded down

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
