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
        if all(value.ndim == 0 and not value.is_floating_point() for value in averaged):
            # Counters of batch norms, which PyTorch would average one by one, with four launches each.
            mixed = torch.stack(list(averaged)) * now + torch.stack(list(current)) * (1 - now)
            torch._foreach_copy_(list(averaged), list(mixed.to(averaged[0].dtype).unbind()))
        else:
            get_ema_multi_avg_fn(now)(averaged, current, updates)  # type: ignore[no-untyped-call]

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
