"""Threads that work on the newest items, finish them in order, and let go of what they cannot keep up with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
Rest = Callable[[], None]
"""What is left to do with an item when all older ones are done."""


class Worker(Generic[T]):
    """Calls `work` in threads of its own, for the newest item only: an item that waits is replaced by the next one.

    Args:
        work: called with one item; with several threads, at the same time as with another one. What it returns is called when
            the older items are done, by one thread at a time.
        on_error: called in the same order, with the item and the exception, when either raises; the next item goes on.
        name: of the threads.
        threads: how many items are worked on at once.
    """

    def __init__(
        self, work: Callable[[T], Rest | None], on_error: Callable[[T, Exception], None], name: str = "worker", threads: int = 1
    ) -> None:
        self._work, self._on_error = work, on_error
        self._waiting: list[T] = []
        self._taken = self._done = 0
        self._stopping = False
        self._changed = threading.Condition()
        self.replaced = 0
        # Daemons: an item that never ends must not keep the process alive after its exit.
        self._threads = [threading.Thread(target=self._run, name=f"{name}.{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T) -> T | None:
        """Hand over an item; returns the one that it replaced, which will not be worked on. Items after `stop` are refused."""
        with self._changed:
            if self._stopping:
                return item
            replaced = self._waiting.pop() if self._waiting else None
            self.replaced += replaced is not None
            self._waiting.append(item)
            self._changed.notify_all()
        return replaced

    def drain(self, timeout: float) -> bool:
        """Wait until nothing waits and nothing runs; False if that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._taken == self._done, timeout)

    def stop(self, timeout: float) -> bool:
        """Let go of what waits and end the threads after their present items; False if that took longer than `timeout` seconds."""
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
                turn = self._taken
                self._taken += 1
            rest: Rest | None
            try:
                rest = self._work(item)
            except Exception as error:
                rest = partial(self._on_error, item, error)
            self._finish(turn, item, rest)

    def _finish(self, turn: int, item: T, rest: Rest | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._done == turn)
        try:
            if rest is not None:
                rest()
        except Exception as error:
            self._on_error(item, error)
        finally:
            with self._changed:
                self._done += 1
                self._changed.notify_all()
