"""One thread that works on the newest item and lets go of what it cannot keep up with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Calls `work` in a thread of its own, for the newest item only: an item that waits is replaced by the next one.

    Args:
        work: called with one item at a time.
        on_error: called with the item and the exception when `work` raises; the next item goes on.
        name: of the thread.
    """

    def __init__(self, work: Callable[[T], None], on_error: Callable[[T, Exception], None], name: str = "worker") -> None:
        self._work, self._on_error = work, on_error
        self._waiting: list[T] = []
        self._busy = False
        self._stopping = False
        self._changed = threading.Condition()
        self.replaced = 0
        # A daemon: an item that never ends must not keep the process alive after its exit.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

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
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def stop(self, timeout: float) -> bool:
        """Let go of what waits and end the thread after its present item; False if that took longer than `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                item = self._waiting.pop()
                self._busy = True
            try:
                self._work(item)
            except Exception as error:
                self._on_error(item, error)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
