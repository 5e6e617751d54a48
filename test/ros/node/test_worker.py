# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from collections.abc import Callable

from occle_ros.node.worker import Worker


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.001)


def test_newest_item_wins_and_the_replaced_ones_come_back() -> None:
    gate, started, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        started.set()
        gate.wait(5)
        done.append(item)

    worker: Worker[int] = Worker(work, lambda item, error: None)
    assert worker.submit(1) is None
    started.wait(5)
    assert [worker.submit(i) for i in (2, 3, 4)] == [None, 2, 3]
    gate.set()
    wait_until(lambda: len(done) == 2)
    assert worker.stop(5)
    assert done == [1, 4]


def test_an_error_is_reported_with_its_item_and_the_worker_continues() -> None:
    errors, done = [], []

    def work(item: int) -> None:
        if item == 1:
            raise ValueError("one")
        done.append(item)

    worker: Worker[int] = Worker(work, lambda item, error: errors.append((item, str(error))))
    worker.submit(1)
    wait_until(lambda: bool(errors))
    worker.submit(2)
    wait_until(lambda: bool(done))
    assert (errors, done) == ([(1, "one")], [2])
    assert worker.stop(5)


def test_stop_forgets_what_waits_and_refuses_what_comes() -> None:
    gate, started, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        started.set()
        gate.wait(5)
        done.append(item)

    worker: Worker[int] = Worker(work, lambda item, error: None)
    worker.submit(1)
    started.wait(5)
    worker.submit(2)
    assert not worker.stop(0.1) and not done  # it does not wait for the gate
    assert worker.submit(3) == 3
    gate.set()
    assert worker.stop(5)
    assert done == [1]


def test_concurrent_items_are_completed_in_order() -> None:
    first_may_end, both = threading.Event(), threading.Barrier(2)
    done: list[tuple[int, str]] = []

    def work(item: int) -> Callable[[], None]:
        both.wait(5)  # breaks unless two are worked on at the same time
        if item == 1:
            first_may_end.wait(5)
        if item == 2:
            raise ValueError("two")
        return lambda: done.append((item, "ok"))

    worker: Worker[int] = Worker(work, lambda item, error: done.append((item, str(error))), threads=2)
    worker.submit(1)
    while not both.n_waiting:
        time.sleep(0.001)
    worker.submit(2)
    time.sleep(0.2)
    assert done == []
    first_may_end.set()
    wait_until(lambda: len(done) == 2)
    assert done == [(1, "ok"), (2, "two")]
    assert worker.stop(5)


def test_a_completion_that_fails_is_reported_and_the_worker_continues() -> None:
    done: list[object] = []

    def work(item: int) -> Callable[[], None]:
        def finish() -> None:
            if item == 1:
                raise ValueError("cannot be published")
            done.append(item)

        return finish

    worker: Worker[int] = Worker(work, lambda item, error: done.append((item, str(error))), threads=2)
    for item in (1, 2):
        worker.submit(item)
        wait_until(lambda: len(done) == item)  # noqa: B023
    assert done == [(1, "cannot be published"), 2]
    assert worker.stop(5)
