# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training on several processes (torchrun) so that the result is that of one process with the whole batch.

Every process takes its share of each batch. Sums that a loss divides by, batch norm's statistics (`loop.sync_batch_norm`) and the
gradients are added up over all of them, so that nothing depends on how the batch was shared out but the order of additions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

TIMEOUT = timedelta(hours=2)
"""Timeout of a process that waits for another: the first one may draw pictures or read a data set alone."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together; a single one by default.

    Args:
        rank: number of this process.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, without a gradient."""
        if self.size == 1:
            return value.detach()
        value = value.detach().clone()
        distributed.all_reduce(value)
        return value

    def summed(self, value: Tensor) -> Tensor:
        """The sum over all processes, whose gradient every process passes on: what is made of it counts `size` times."""
        out: Tensor = value if self.size == 1 else _Sum.apply(value)  # type: ignore[no-untyped-call]
        return out

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every parameter the sum of its gradients of all processes; one that has none anywhere keeps none."""
        if self.size == 1:
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = torch.tensor([p.grad is not None for p in parameters], dtype=parts[0].dtype, device=parts[0].device)
        flat = self.total(torch.cat([*(part.flatten() for part in parts), present]))
        *sums, present = torch.split(flat, [*(part.numel() for part in parts), len(parameters)])
        for parameter, value, there in zip(parameters, sums, present.tolist()):
            parameter.grad = value.view_as(parameter) if there else None


ALONE = ProcessGroup()


@contextmanager
def join_process_group(device: str) -> Iterator[tuple[ProcessGroup, str]]:
    """The group that torchrun started this process in, and this process's device; a group of one elsewhere."""
    if "RANK" not in os.environ:
        yield ProcessGroup(), device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    gpu = torch.device(device) if device.startswith("cuda") else None
    # Without a device of its own, a barrier takes that of the rank's number, which on a second machine may not be this one's.
    distributed.init_process_group("nccl" if gpu else "gloo", timeout=TIMEOUT, device_id=gpu)
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum over all processes; each process's loss pulls at it, so that the gradients add up too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        upstream = upstream.clone()
        distributed.all_reduce(upstream)
        return upstream
