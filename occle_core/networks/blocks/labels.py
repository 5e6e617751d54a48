# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Class logits -> labels and confidence."""

from __future__ import annotations

import torch
from torch import Tensor


def classify(logits: Tensor, free: int) -> tuple[Tensor, Tensor]:
    """The class of each logit vector (N, classes, ...) and its softmax probability, 0 where free; both (N, ...) float32."""
    logits = logits.float()
    if torch.compiler.is_exporting():
        best = logits.amax(1, keepdim=True)
        # The first of the best, without argmax, which engines compute by sorting.
        numbers = torch.arange(logits.shape[1], dtype=torch.float32, device=logits.device)
        label = torch.where(logits == best, numbers.view(-1, *[1] * (logits.ndim - 2)), logits.shape[1]).amin(1)
    else:
        best, label = logits.max(1, keepdim=True)
        label = label[:, 0].float()
    return label, torch.where(label == free, 0.0, 1 / (logits - best).exp().sum(1))
