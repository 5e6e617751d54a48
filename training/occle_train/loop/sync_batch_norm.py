# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Batch norm with statistics over all processes that train together.

torch's SyncBatchNorm does the same on GPUs only, and has no place for a process without any cell.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from occle_core.sparse import SparseTensor
from occle_core.sparse.layers import SparseBatchNorm
from occle_train.process_group import ProcessGroup


@contextmanager
def sync_batch_norms(network: nn.Module, group: ProcessGroup) -> Iterator[None]:
    """Inside the block, batch norms in training mode take their statistics from all processes' batches."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if group.size > 1 else []
    try:
        for norm in norms:
            # An attribute of the instance stands before the class's method, and its removal brings that back.
            object.__setattr__(norm, "forward", functools.partial(_forward, norm, norm.forward))
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _forward(norm: Any, own: Any, x: Any) -> Any:
    if not norm.training:
        return own(x)
    if isinstance(norm, SparseBatchNorm):
        sparse: SparseTensor = x
        return sparse.with_features(_normalised(norm, sparse.features))
    return _normalised(norm, x)


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """(N, C, ...) normalised by the mean and variance over all processes' N and further dimensions; float32."""
    # Autocast's bfloat16 is too coarse for statistics.
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor
        out, mean, variance, count = _Normalise.apply(x.float(), norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1).clamp(min=1), norm.momentum)
    return out


class _Normalise(torch.autograd.Function):
    """Batch norm in PyTorch's own kernels, with one exchange each way: counts, means and variances; sums of the gradients.

    The same in elementary operations and sums is several times as slow on CPUs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = x.new_zeros(3, x.shape[1])
        if x.numel():
            own[2].fill_(x.numel() // x.shape[1])
            own[0], own[1] = torch.batch_norm_update_stats(x, None, None, 0.0)  # var_mean is far slower on CPUs
        parts = own.new_empty(distributed.get_world_size(), *own.shape)
        distributed.all_gather(list(parts.unbind()), own)
        means, variances, counts = parts.unbind(1)
        count = counts.sum(0).clamp(min=1)
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        out = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps) if x.numel() else x.clone()
        ctx.mark_non_differentiable(mean, variance, count)
        return out, mean, variance, count

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        if x.numel():
            # As if the statistics were constants.
            inward, scale, shift = torch.ops.aten.native_batch_norm_backward(
                upstream.contiguous(), x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        else:
            inward, scale, shift = torch.zeros_like(x), torch.zeros_like(mean), torch.zeros_like(mean)
        sums = torch.stack([shift, scale])
        distributed.all_reduce(sums)
        inverse = torch.rsqrt(variance + ctx.eps)
        by_mean, by_variance = sums / count * weight * inverse
        slope = by_variance * inverse
        shape = [1, -1] + [1] * (x.ndim - 2)
        inward.sub_((by_mean - slope * mean).view(shape)).addcmul_(x, slope.view(shape), value=-1)
        return inward, scale, shift, None
