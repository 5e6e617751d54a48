"""Exponential moving average (EMA) of a network's weights, with a warm-up for short trainings."""

from __future__ import annotations

from typing import Any

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
        get_ema_multi_avg_fn(warmed_decay(int(updates), decay))(  # type: ignore[no-untyped-call]
            averaged, current, updates
        )

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
