# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Loader processes: how many, that they share what is read, and that signals to stop are the training process's."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterable
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch", covariant=True)

MOST = 8
"""Loader processes beside a GPU, at most."""
CACHE = 4.0
"""GiB of frames that a training process and its loaders keep in memory, at most."""
GRACE = 30
"""Seconds that a loader process works on after SIGTERM."""


def loader_processes(asked: int | None, device: str, processes: int = 1) -> int:
    """Number of loader processes.

    Args:
        asked: by the configuration; None chooses by the cores: beside a GPU all but one, beside a CPU, which needs them for the
            network, a quarter, and none on fewer than four.
        device: torch's name of the device that trains.
        processes: training processes on this machine, which share the cores.
    """
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) // max(1, processes)
    return max(1, min(MOST, cores - 1)) if device.startswith("cuda") else min(MOST, cores // 4)


def cache_size(asked: int | None, device: str, processes: int = 1) -> float:
    """GiB of frames that each loader process keeps in memory, so that all of a training process keep CACHE.

    Args:
        asked, device, processes: see `loader_processes`.
    """
    return CACHE / max(1, loader_processes(asked, device, processes))


def load_batches(batches: Dataset[Batch], order: Iterable[Any], workers: int, device: str) -> DataLoader[Batch]:
    """The batches that a training takes.

    Loader processes are forked, also where Python's default is another (3.14): they share the tables that this process has read,
    and do not import the program's main module.

    Args:
        batches: by the elements of `order`.
        order: of the steps.
        workers: loader processes; 0 loads in this one.
        device: torch's name of the device that trains; a GPU copies from pinned memory.
    """
    if workers:
        gc.freeze()  # the collector would write to every object that the loader processes share, and so copy it
    return DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=ignore_signals,
        pin_memory=device.startswith("cuda"),
    )


def ignore_signals(worker: int) -> None:
    """Let the training process alone answer Ctrl-C and SIGTERM, which terminals and schedulers send to loader processes as well.

    After SIGTERM a loader process serves for GRACE seconds more, in which the training ends its step and closes the loader.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.setitimer(signal.ITIMER_REAL, GRACE))


def close_loader(iterator: Any) -> None:
    """End the processes of a loader's iterator at once; after an error its traceback would keep them until the program ends."""
    shutdown = getattr(iterator, "_shutdown_workers", None)
    if shutdown is not None:
        shutdown()
