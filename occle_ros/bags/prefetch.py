# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Prefetching iterator: a thread reads a bounded number of items ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
ITEMS = 16


class Prefetcher(Generic[T]):
    """Prefetching iterator over an iterable, as a context manager; an exception of the iterable is raised where it is iterated.

    Args:
        items: iterated by the thread only.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(ITEMS)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)

    def __enter__(self) -> Prefetcher[T]:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._queue.get(), _End):
            yield item
        if item.error:
            raise item.error

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(_End())
        except Exception as error:  # raised where the items are used
            self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        while not self._closing.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False


class _End:
    """End of the items, or the error that ended them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
