# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The one operation behind every sparse convolution: gather the kernel's rows, multiply once by the whole kernel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from occle_core.sparse import native_gemm, triton_gemm
from occle_core.sparse.autocast import autocast_inputs
from occle_core.sparse.pairs import Pairs, pairs_of, share_of
from occle_core.sparse.runs import CHUNK_ROWS, DENSE_SHARE

DEVICE_BYTES = 256 << 20
"""Gathered rows at once on a GPU, where each chunk costs two launches."""


@autocast_inputs
def gather_gemm(features: Tensor, weight: Tensor, rows: Tensor, mirrored: bool = False) -> Tensor:
    """out[i] = sum over k of features[rows[i, k]] @ weight[k].

    Args:
        features: (N, C).
        weight: (K, C, D).
        rows: (M, K) int32, rows of `features`; N stands for "no neighbour" and contributes nothing.
        mirrored: rows is a submanifold map, where j is i's k-th neighbour exactly if i is j's (K-1-k)-th:
            the gradient is then a gather too, without any scatter.

    Returns:
        (M, D). Differentiable once in features and weight.
    """
    if torch.compiler.is_exporting():
        return _exported(features, weight, rows)
    if native_gemm.available(features, weight):
        return native_gemm.multiply(features, weight, native_gemm.pairs_of_rows(rows, len(features)), None if mirrored else rows)
    out: Tensor = _GatherGemm.apply(features, weight, rows, mirrored)  # type: ignore[no-untyped-call]
    return out


def _exported(features: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """The same for inference engines: one gather, one GEMM."""
    kernel, channels, _ = weight.shape
    gathered = _with_zero_row(features).index_select(0, rows.reshape(-1))
    return gathered.view(rows.shape[0], kernel * channels) @ weight.reshape(kernel * channels, -1)


class _GatherGemm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, rows: Tensor, mirrored: bool) -> Tensor:
        ctx.save_for_backward(features, weight, rows)
        ctx.mirrored = mirrored  # type: ignore[attr-defined]
        few = features.device.type == "cpu" and share_of(rows, len(features)) < DENSE_SHARE
        ctx.pairs = pairs_of(rows, len(features)) if few else None  # type: ignore[attr-defined]
        return _multiply(features, weight, rows, ctx.pairs)  # type: ignore[attr-defined]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight, rows = ctx.saved_tensors  # type: ignore[attr-defined]
        pairs: Pairs | None = ctx.pairs  # type: ignore[attr-defined]
        needs_features, needs_weight, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad = grad.contiguous()
        grad_features = None
        if needs_features and ctx.mirrored:  # type: ignore[attr-defined]
            grad_features = _multiply(grad, weight.flip(0).transpose(1, 2).contiguous(), rows, pairs)
        elif needs_features and features.device.type == "cpu":
            grad_features = pairs_of(rows, len(features)).multiply_back(grad, weight)
        elif needs_features:
            grad_features = _scatter(grad, weight, rows, len(features))
        grad_weight = _correlate(features, grad, rows, pairs).view_as(weight) if needs_weight else None
        return grad_features, grad_weight, None, None


def _with_zero_row(features: Tensor) -> Tensor:
    """The features with a row of zeros behind them, which "no neighbour" points to."""
    return torch.cat([features, features.new_zeros(1, features.shape[1])])


def _multiply(features: Tensor, weight: Tensor, rows: Tensor, pairs: Pairs | None) -> Tensor:
    if pairs is not None:
        return pairs.multiply(features, weight)
    if features.is_cuda and triton_gemm.available(features):
        found: Tensor = triton_gemm.gather_gemm_forward(features, weight, rows)
        return found
    count, kernel = rows.shape
    channels = features.shape[1]
    source, matrix = _with_zero_row(features), weight.reshape(kernel * channels, -1)
    out = features.new_empty(count, weight.shape[2])
    chunk = _chunk_rows(features, kernel * channels)
    block = features.new_empty(min(chunk, count) * kernel, channels)
    for start in range(0, count, chunk):
        part = rows[start : start + chunk]
        gathered = block[: part.numel()]
        torch.index_select(source, 0, part.reshape(-1), out=gathered)
        torch.mm(gathered.view(len(part), kernel * channels), matrix, out=out[start : start + chunk])
    return out


def _chunk_rows(features: Tensor, values: int) -> int:
    """Output rows at once, each of `values` gathered numbers: for a CPU's cache, or as many as a GPU's memory allows."""
    if features.device.type == "cpu":
        return CHUNK_ROWS
    return max(CHUNK_ROWS, DEVICE_BYTES // (values * features.element_size()))


def _correlate(features: Tensor, grad: Tensor, rows: Tensor, pairs: Pairs | None) -> Tensor:
    """Gradient of the weight: sum over i of gathered[i]^T grad[i], (K * C, D)."""
    if pairs is not None:
        return pairs.correlate(features, grad)
    count, kernel = rows.shape
    channels = features.shape[1]
    source = _with_zero_row(features)
    half = features.dtype in (torch.float16, torch.bfloat16)  # whose sums over many chunks need more bits than a product's result
    total = torch.zeros(kernel * channels, grad.shape[1], dtype=torch.float32 if half else features.dtype, device=features.device)
    chunk = _chunk_rows(features, kernel * channels)
    block = features.new_empty(min(chunk, count) * kernel, channels)
    for start in range(0, count, chunk):
        part = rows[start : start + chunk]
        gathered = block[: part.numel()]
        torch.index_select(source, 0, part.reshape(-1), out=gathered)
        matrix = gathered.view(len(part), kernel * channels).t()
        if half:
            total += torch.mm(matrix, grad[start : start + chunk])
        else:
            total.addmm_(matrix, grad[start : start + chunk])
    return total.to(features.dtype)


def _scatter(grad: Tensor, weight: Tensor, rows: Tensor, size: int) -> Tensor:
    """Gradient of the features for a map without mirror symmetry."""
    count, kernel = rows.shape
    channels = weight.shape[1]
    matrix = weight.permute(2, 0, 1).reshape(-1, kernel * channels)
    total = grad.new_zeros(size + 1, channels)
    chunk = _chunk_rows(grad, kernel * channels)
    for start in range(0, count, chunk):
        part = rows[start : start + chunk]
        spread = torch.mm(grad[start : start + chunk], matrix).view(-1, channels)
        total.index_add_(0, part.reshape(-1), spread)
    return total[:size]
