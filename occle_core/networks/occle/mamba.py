# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Mamba (Gu & Dao, Linear-Time Sequence Modeling with Selective State Spaces): the selective scan and the block around it.

A scan is a recurrence over tokens, h_t = a_t h_{t-1} + b_t. Here it runs over chunks of two tokens that are joined and scanned in
turn: log2(L) steps over ever shorter tensors instead of L steps, no data-dependent control flow, and no division or logarithm,
so that it is exact for any decay. CUDA has the mamba-ssm package's kernels where that is installed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from occle_core.networks.blocks.slices import split_by_slices

KERNEL_TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types that mamba-ssm's kernels take."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Selective scan over L tokens with D channels of N states each (Gu & Dao, Algorithm 2).

        dt = softplus(delta + delta_bias),  x_t = exp(dt_t A) x_{t-1} + dt_t B_t u_t,  y_t = <C_t, x_t> + D u_t,  y * silu(z)

    Args:
        u, delta: (batch, D, L) inputs and step sizes.
        A: (D, N) decay rates, negative for a decay.
        B, C: (batch, N, L) input and output maps of each token; (batch, G, N, L) where each G-th of the channels has its own.
        D: (D,) weight of the input itself.
        z: (batch, D, L) gates.
        delta_bias: (D,) is added to delta.
        delta_softplus: pass delta through a softplus.

    Returns:
        (batch, D, L) of u's type; computed in float32 at least. Differentiable once.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check(u, delta, A, B, C, D, z, delta_bias)
    kernel = _kernel_for(u)
    if kernel is not None:
        out: Tensor = kernel(u, delta, A.float(), B, C, D, z, delta_bias, delta_softplus)
        return out
    wide = torch.promote_types(u.dtype, torch.float32)
    # Tokens before channels: halves of the sequence are then blocks of memory.
    tokens, dt = _as(u, wide).transpose(1, 2), _as(delta, wide).transpose(1, 2)
    if delta_bias is not None:
        dt = dt + _as(delta_bias, wide)
    if delta_softplus:
        dt = F.softplus(dt)
    maps_in, maps_out = (_by_token(_as(value, wide)) for value in (B, C))
    groups = maps_in.shape[2]
    shape = (*dt.shape[:2], groups, dt.shape[2] // groups, 1)
    decay = torch.exp(dt.reshape(shape) * _as(A, wide).view(*shape[2:4], -1))
    pushed = (dt * tokens).reshape(shape) * maps_in.unsqueeze(3)
    states = linear_recurrence(decay, pushed)
    with _without_autocast(u.device.type):
        y = torch.matmul(states, maps_out.unsqueeze(4)).flatten(2)
    if D is not None:
        y = y + tokens * _as(D, wide)
    if z is not None:
        y = y * F.silu(_as(z, wide).transpose(1, 2))
    return _as(y.transpose(1, 2), u.dtype)


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """Autocast off where it is on; exported programs stay without a trace of it."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def linear_recurrence(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t with h_{-1} = 0, along dimension 1.

    Args:
        a, b: (batch, L, ...) of equal shape.

    Returns:
        (batch, L, ...). Differentiable once; the gradient is the same recurrence backwards, and keeps two tensors only.
    """
    if torch.compiler.is_exporting():
        return _scan(a, b)
    out: Tensor = _Recurrence.apply(a, b)  # type: ignore[no-untyped-call]
    return out


@dataclass
class ScanArguments:
    """Arguments of a selective scan, under its names."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    z: Tensor
    delta_bias: Tensor


class Mamba(nn.Module):
    """Mamba block with the parameter names of the mamba-ssm package.

    Args:
        channels: of the tokens.
        state: states per inner channel.
        expand: inner channels per channel.
        kernel: tokens that the causal convolution before the scan sees.
    """

    def __init__(self, channels: int, state: int = 16, expand: int = 2, kernel: int = 4) -> None:
        super().__init__()
        inner, self.state, self.rank = expand * channels, state, math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1).float()).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        # Step sizes start between 0.001 and 0.1, evenly in their logarithm (Gu & Dao, Sec. 3.6): the inverse of softplus.
        steps = torch.exp(torch.empty(inner).uniform_(math.log(1e-3), math.log(0.1)))
        self.dt_proj.bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, L, channels) -> (batch, L, channels); a token sees itself and those before it."""
        chosen = self.select(tokens)
        return self.finish(selective_scan(**vars(chosen), delta_softplus=True))

    def select(self, tokens: Tensor) -> ScanArguments:
        """(batch, L, channels) -> what the scan is called with."""
        length = tokens.shape[1]
        x, z = split_by_slices(self.in_proj(tokens).transpose(1, 2), [len(self.D)] * 2, 1)
        x = F.silu(self.conv1d(x)[..., :length])
        step, B, C = split_by_slices(self.x_proj(x.transpose(1, 2)).transpose(1, 2), [self.rank, self.state, self.state], 1)
        delta = torch.matmul(self.dt_proj.weight, step)
        return ScanArguments(x, delta, -torch.exp(self.A_log.float()), B, C, self.D, z, self.dt_proj.bias)

    def finish(self, scanned: Tensor) -> Tensor:
        """The scan's result (batch, inner, L) -> (batch, L, channels)."""
        out: Tensor = self.out_proj(scanned.transpose(1, 2))
        return out


def scan_together(one: ScanArguments, other: ScanArguments) -> tuple[Tensor, Tensor]:
    """The scans of two blocks of equal sizes as one of twice the channels: half as many steps for an engine to run.

    Returns:
        what `selective_scan` gives for each, (batch, inner, L).
    """
    pair = [(a, vars(other)[name]) for name, a in vars(one).items()]
    u, delta, A, B, C, D, z, bias = (
        torch.stack(values, 1) if name in "BC" else torch.cat(values, 0 if name in ("A", "D", "delta_bias") else 1)
        for name, values in zip(vars(one), pair)
    )
    scanned = selective_scan(u, delta, A, B, C, D, z, bias, delta_softplus=True)
    first, second = split_by_slices(scanned, [one.u.shape[1], other.u.shape[1]], 1)
    return first, second


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        h = _scan(a, b)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors  # type: ignore[attr-defined]
        # What reaches h_t: its own gradient and, through a_{t+1}, what reaches h_{t+1}.
        after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        reached = _scan(after.flip(1), grad.flip(1)).flip(1)
        before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
        return reached * before, reached


def _scan(a: Tensor, b: Tensor) -> Tensor:
    """Join tokens in pairs, scan the pairs, and derive each pair's first token from the pair before it."""
    length = a.shape[1]
    if length == 1:
        return b
    if length % 2:
        head = _scan(a[:, :-1], b[:, :-1])
        return torch.cat([head, a[:, -1:] * head[:, -1:] + b[:, -1:]], 1)
    pairs = (a.shape[0], length // 2, 2, *a.shape[2:])
    pairs_a, pairs_b = a.reshape(pairs), b.reshape(pairs)
    first_a, second_a = pairs_a[:, :, 0], pairs_a[:, :, 1]
    first_b, second_b = pairs_b[:, :, 0], pairs_b[:, :, 1]
    second = _scan(first_a * second_a, second_a * first_b + second_b)
    before = torch.cat([torch.zeros_like(second[:, :1]), second[:, :-1]], 1)
    return torch.stack([first_a * before + first_b, second], 2).flatten(1, 2)


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of this type; a cast to its own type would still be a step of an exported program."""
    return value if value.dtype == dtype else value.to(dtype)


def _by_token(maps: Tensor) -> Tensor:
    """(batch, N, L) or (batch, G, N, L) -> (batch, L, G, N)."""
    return (maps.unsqueeze(1) if maps.ndim == 3 else maps).permute(0, 3, 1, 2)


def _kernel_for(u: Tensor) -> Callable[..., Any] | None:
    """mamba-ssm's kernel where it is installed and can run on this tensor; exported programs never hold it."""
    if not u.is_cuda or u.dtype not in KERNEL_TYPES or torch.compiler.is_exporting():
        return None
    return _installed_kernel()


@cache
def _installed_kernel() -> Callable[..., Any] | None:
    try:
        kernel: Callable[..., Any] = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:
        return None
    return kernel


def _check(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None
) -> None:
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(f"u must be (batch, D, L) and A (D, N), not {tuple(u.shape)} and {tuple(A.shape)}")
    (batch, channels, length), state = u.shape, A.shape[1]
    groups = B.shape[1:2] if B.ndim == 4 else ()
    if groups and channels % groups[0]:
        raise ValueError(f"B has {groups[0]} groups, which do not divide u's {channels} channels")
    maps = (batch, *groups, state, length)
    wanted = {"delta": (delta, u.shape), "A": (A, (channels, state)), "B": (B, maps), "C": (C, maps)}
    optional = {"D": (D, (channels,)), "z": (z, u.shape), "delta_bias": (delta_bias, (channels,))}
    for name, (value, shape) in {**wanted, **optional}.items():
        if value is not None and tuple(value.shape) != tuple(shape):
            raise ValueError(f"{name} is {tuple(value.shape)}, but u {tuple(u.shape)} and A {tuple(A.shape)} need {tuple(shape)}")
