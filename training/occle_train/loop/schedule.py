# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedule, seeds, and weights of another network."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import nn


def warmup_cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the peak learning rate: linear up to `warmup`, then a half cosine to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def scheduled_rate(step: int, warmup: int, steps: int, seconds: float = 0.0, limit: float | None = None) -> float:
    """Share of the peak learning rate at a step; a schedule with a time limit ends with it, however slow the machine.

    Args:
        step, warmup, steps: see `warmup_cosine`.
        seconds: that the training has taken.
        limit: largest number of seconds; None has no limit.
    """
    if limit is None or step < warmup:
        return warmup_cosine(step, warmup, steps)
    by_time = warmup + (steps - warmup) * min(1.0, seconds / limit)
    return min(warmup_cosine(step, warmup, steps), 0.5 * (1 + math.cos(math.pi * (by_time - warmup) / max(1, steps - warmup))))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that use the global generator
    torch.manual_seed(seed)


def copy_matching(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights whose names and shapes agree; a head of another class list keeps its own."""
    own = target.state_dict()
    own.update({name: value for name, value in source.state_dict().items() if name in own and own[name].shape == value.shape})
    target.load_state_dict(own)


@torch.no_grad()
def blend_matching(source: nn.Module, target: nn.Module, share: float) -> None:
    """Move weights and batch norm statistics of `target` by `share` towards those of the same name and shape in `source`."""
    given = source.state_dict()
    for name, value in target.state_dict().items():
        if name in given and given[name].shape == value.shape and value.is_floating_point():
            value.lerp_(given[name].to(value), share)
