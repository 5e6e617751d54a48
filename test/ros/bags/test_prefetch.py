# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import pytest

from occle_ros.bags.prefetch import ITEMS, Prefetcher


def test_all_items_come_in_order() -> None:
    with Prefetcher(iter(range(5 * ITEMS))) as read:
        assert list(read) == list(range(5 * ITEMS))


def test_no_more_than_so_many_are_read_ahead_and_leaving_ends_the_thread() -> None:
    taken: list[int] = []

    def endless():
        for number in range(10**9):
            taken.append(number)
            yield number

    before = threading.active_count()
    with Prefetcher(endless()) as read:
        assert next(iter(read)) == 0
        time.sleep(0.1)
        assert len(taken) <= ITEMS + 2
    assert threading.active_count() == before


def test_a_failure_comes_after_what_was_read() -> None:
    def broken():
        yield 1
        raise OSError("disk")

    with Prefetcher(broken()) as read:
        items = iter(read)
        assert next(items) == 1
        with pytest.raises(OSError, match="disk"):
            next(items)
