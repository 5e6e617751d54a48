# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Prefetching iterator: a thread reads a bounded number of items ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
ITEMS = 16
_END = object()


class Prefetcher(Generic[T]):
    """Prefetching iterator over an iterable, as a context manager; an exception of the iterable is raised where it is iterated.

    Args:
        items: iterated by the thread only.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._queue: queue.Queue[object] = queue.Queue(ITEMS)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)

    def __enter__(self) -> Prefetcher[T]:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while (item := self._queue.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except Exception as error:  # raised where the items are used
            self._put(_Failure(error))
        self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._closing.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error
