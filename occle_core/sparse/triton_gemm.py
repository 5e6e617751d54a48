# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The gather-GEMM on CUDA as one Triton kernel: an implicit GEMM that never writes the gathered rows to memory.

Registered as the operator `occle::gather_gemm`, so that torch.compile and torch.export see one node. `gather_gemm.py` is the
entry point and keeps PyTorch's gather + GEMM for CPUs, other types and machines without Triton. The kernel itself is
`triton_kernel.py`.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

INSTALLED = find_spec("triton") is not None
TYPES = (torch.float32, torch.float16, torch.bfloat16)
BLOCK_ROWS = 64
"""Output rows per program."""
WARPS, STAGES = 4, 3


def available(features: Tensor) -> bool:
    """True if the kernel can run on these features: on a CUDA device, of a type that it knows, with Triton installed."""
    return INSTALLED and features.is_cuda and features.dtype in TYPES


@torch.library.custom_op("occle::gather_gemm", mutates_args=())
def gather_gemm_forward(features: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """out[i] = sum over k of features[rows[i, k]] @ weight[k], accumulated in float32.

    Args:
        features: (N, C) float32, float16 or bfloat16.
        weight: (K, C, D) of the same type.
        rows: (M, K) int32, rows of `features`; N stands for "no neighbour" and contributes nothing.

    Returns:
        (M, D) of the same type. Not differentiable: `gather_gemm` is.

    Raises:
        ValueError: types or shapes do not fit.
    """
    _check(features, weight, rows)
    (size, channels), (count, kernel), width = features.shape, rows.shape, weight.shape[2]
    out = features.new_empty(count, width)
    if count:
        from occle_core.sparse.triton_kernel import gather_gemm_kernel  # Triton takes 67 MB of memory

        blocks = block_sizes(channels, width)
        grid = (-(-count // BLOCK_ROWS), -(-width // blocks["BLOCK_D"]))
        arguments = (features.contiguous(), weight.contiguous(), rows.contiguous(), out, size, count)
        exact = features.dtype != torch.float32 or not _allows_tf32()
        sizes = {"C": channels, "D": width, "K": kernel, "EXACT": exact, "BLOCK_M": BLOCK_ROWS, **blocks}
        # Triton launches on the current GPU, wherever the tensors are.
        with torch.cuda.device_of(features):  # type: ignore[no-untyped-call]
            gather_gemm_kernel[grid](*arguments, **sizes, num_warps=WARPS, num_stages=STAGES)
    return out


def _allows_tf32() -> bool:
    """True if float32 products may be rounded to TF32, as torch's own settings say."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # since torch 2.9
    return bool(matmul.allow_tf32) if precision is None else precision == "tf32"


@gather_gemm_forward.register_fake
def _(features: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    return features.new_empty(rows.shape[0], weight.shape[2])


def block_sizes(channels: int, width: int) -> dict[str, int]:
    """Input and output channels per step of the kernel: powers of two from 16 (the least that tensor cores take)."""
    return {"BLOCK_C": _power_of_two(channels, 32), "BLOCK_D": _power_of_two(width, 128)}


def _power_of_two(value: int, most: int) -> int:
    return max(16, min(most, 1 << (value - 1).bit_length()))


def _check(features: Tensor, weight: Tensor, rows: Tensor) -> None:
    fits = features.ndim == rows.ndim == 2 and weight.ndim == 3 and weight.shape[:2] == (rows.shape[1], features.shape[1])
    if not fits or rows.dtype != torch.int32 or features.dtype != weight.dtype or features.dtype not in TYPES:
        given = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in (features, weight, rows))
        raise ValueError(f"expected features (N, C), weight (K, C, D) of one of {TYPES} and rows (M, K) int32, not {given}")
