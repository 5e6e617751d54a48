# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from occle_ros.node import throttle as rate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(rate.time, "monotonic", lambda: now[0])
    return now


def test_a_limit_of_two_a_second(clock: list[float]) -> None:
    limit, allowed = rate.RateLimiter(), 0
    for _ in range(100):  # ten seconds at ten a second
        allowed += limit.allows(2.0)
        clock[0] += 0.1
    assert allowed == 20
    assert all(limit.allows(0.0) for _ in range(5))


def test_a_repeated_message_is_told_again_after_a_while(clock: list[float]) -> None:
    repeats = rate.LogThrottle(5.0)
    assert repeats.should_log("a")
    assert not repeats.should_log("a")
    assert repeats.should_log("b")
    clock[0] += 4.9
    assert not repeats.should_log("a")
    clock[0] += 0.2
    assert repeats.should_log("a")
