# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Precision of a training's matrix products: float32, TF32, or bfloat16 by autocast. Weights and updates are float32 in all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

TrainingPrecision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def matmul_precision(precision: TrainingPrecision, device: str) -> Iterator[None]:
    """Let products of float32 matrices on a GPU be rounded to TF32's 10 bits, for "tf32" and "bf16"; a CPU is left as it is."""
    if precision == "fp32" or not device.startswith("cuda"):
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(precision: TrainingPrecision, device: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16 for the forward pass and the losses, for "bf16" alone; no gradient scaling is needed."""
    return torch.autocast(torch.device(device).type, torch.bfloat16) if precision == "bf16" else nullcontext()
