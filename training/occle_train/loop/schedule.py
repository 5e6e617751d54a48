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
