# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Autocast for functions with gradients of their own, which PyTorch's autocast does not see into."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Tensor])


def autocast_inputs(function: Function) -> Function:
    """Within autocast, give a function its first two tensors in autocast's type, as a matrix product would take them."""

    @wraps(function)
    def run(features: Tensor, weight: Tensor, *more: Any, **options: Any) -> Tensor:
        device = features.device.type
        if not torch.is_autocast_enabled(device) or torch.compiler.is_exporting():
            return function(features, weight, *more, **options)
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return function(features.to(dtype), weight.to(dtype), *more, **options)

    return cast("Function", run)
