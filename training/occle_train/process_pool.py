# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A pool of processes that Ctrl-C, errors and the end of its parent end at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any


class _DeafProcess(SpawnProcess):
    """A process that leaves Ctrl-C to its parent from its first import on: it is born with the signal blocked."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _DeafContext(SpawnContext):
    Process = _DeafProcess


@contextmanager
def process_pool(count: int, begin: Callable[..., None] | None = None, *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that Ctrl-C and errors end at once, and that end with this process however it ends.

    Args:
        count: processes.
        begin: called once in each, a function of a module.
        arguments: of `begin`.

    Raises:
        ChildProcessError: one of them died.
    """
    # Spawned, not forked: a fork of a process whose OpenMP threads or CUDA run may hang.
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, _DeafContext(), _begin_process, (begin, arguments))
    try:
        for _ in range(count):  # starts them all; nobody would notice the death of one that the last job has started
            pool.submit(os.getpid)
        yield pool
    except BaseException as error:
        # Without this the pool would wait for the items that are being worked on.
        children = set(multiprocessing.active_children()) - others
        for child in children:
            child.terminate()
        for child in children:
            child.join()
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError("a worker process died; where memory is short (see dmesg), use fewer workers") from error
        raise
    finally:
        # Ctrl-C may meet the pool half-begun: it cannot wait for its thread then, which ends with the processes.
        with suppress(RuntimeError):
            pool.shutdown(cancel_futures=True)


def _begin_process(begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """End with the parent, even if it is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
