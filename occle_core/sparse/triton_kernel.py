# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernel of the gather-GEMM; importing this imports Triton."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def gather_gemm_kernel(  # type: ignore[no-untyped-def]  # noqa: ANN201 - Triton reads these annotations, not Python
    features,  # noqa: ANN001
    weight,  # noqa: ANN001
    rows,  # noqa: ANN001
    out,  # noqa: ANN001
    size,  # noqa: ANN001
    count,  # noqa: ANN001
    C: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    EXACT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """`triton_gemm.gather_gemm_forward`, a block of rows and output channels a program."""
    # 64 bits: rows times channels, and rows times kernel, pass 2^31 on large grids.
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.full((BLOCK_M, BLOCK_D), 0.0, tl.float32)
    steps: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    # One flat loop over offsets and channel blocks: Triton overlaps the loads of the next turns with the product of this one.
    for step in range(K * steps):
        k = step // steps
        c = (step % steps) * BLOCK_C + tl.arange(0, BLOCK_C)
        row = tl.load(rows + m * K + k, mask=m < count, other=size)
        found = (row < size)[:, None] & (c < C)[None, :]
        a = tl.load(features + row.to(tl.int64)[:, None] * C + c[None, :], mask=found, other=0.0)
        b = tl.load(weight + (k * C + c[:, None]) * D + d[None, :], mask=(c < C)[:, None] & (d < D)[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee" if EXACT else "tf32")
    tl.store(out + m[:, None] * D + d[None, :], total.to(out.dtype.element_ty), mask=(m < count)[:, None] & (d < D)[None, :])
