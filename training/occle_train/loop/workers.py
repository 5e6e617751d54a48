"""Loader processes: how many, and that signals to stop are the training process's."""

from __future__ import annotations

import os
import signal

MOST = 8
"""Loader processes beside a GPU, at most."""


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


def ignore_signals(worker: int) -> None:
    """Let the training process alone answer Ctrl-C and SIGTERM, which terminals and schedulers send to loader processes as well.

    Loader processes end when the training process does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
