# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Worker threads for the newest items only, with completion in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
CompletionCallback = Callable[[], None]
"""Called after an item is processed, in the order of the items."""


class Worker(Generic[T]):
    """Worker threads with a queue of one item: a waiting item is replaced by the next one.

    Args:
        work: called with one item, concurrently where there are several threads. The callback that it returns is called when all
            older items are done, by one thread at a time.
        on_error: called in the same order, with the item and the exception, if either raises; the worker continues.
        name: of the threads.
        threads: number of items that are processed concurrently.
    """

    def __init__(
        self,
        work: Callable[[T], CompletionCallback | None],
        on_error: Callable[[T, Exception], None],
        name: str = "worker",
        threads: int = 1,
    ) -> None:
        self._work, self._on_error = work, on_error
        self._waiting: list[T] = []
        self._taken = self._done = 0
        self._stopping = False
        self._changed = threading.Condition()
        # Daemons: an item that never ends must not keep the process alive.
        self._threads = [threading.Thread(target=self._run, name=f"{name}.{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T) -> T | None:
        """Queue an item; returns the waiting item that it replaced, or after `stop` the item itself."""
        with self._changed:
            if self._stopping:
                return item
            replaced = self._waiting.pop() if self._waiting else None
            self._waiting.append(item)
            self._changed.notify_all()
        return replaced

    def stop(self, timeout: float) -> bool:
        """Discard the waiting item and join the threads after their current items; False after `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                item = self._waiting.pop()
                number = self._taken
                self._taken += 1
            complete: CompletionCallback | None
            try:
                complete = self._work(item)
            except Exception as error:
                complete = partial(self._on_error, item, error)
            self._finish(number, item, complete)

    def _finish(self, number: int, item: T, complete: CompletionCallback | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._done == number)
        try:
            if complete is not None:
                complete()
        except Exception as error:
            self._on_error(item, error)
        finally:
            with self._changed:
                self._done += 1
                self._changed.notify_all()
