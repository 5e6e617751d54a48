# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rate limiter for publications, and throttle for log messages."""

from __future__ import annotations

import time


class RateLimiter:
    """Rate limiter with a maximum rate in Hz."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def allows(self, max_rate_hz: float) -> bool:
        """True if the next event is due at this rate (0: always); True starts the next period."""
        now = time.monotonic()
        # A tenth of a period of tolerance: frames at exactly the allowed rate jitter around it.
        if max_rate_hz and now - self._last < 0.9 / max_rate_hz:
            return False
        self._last = now
        return True


class LogThrottle:
    """Throttle for log messages: the same text is logged at most once in `seconds`."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._logged: dict[str, float] = {}

    def should_log(self, text: str) -> bool:
        """True if the text is due to be logged now."""
        now = time.monotonic()
        self._logged = {known: when for known, when in self._logged.items() if now - when < self._seconds}
        if text in self._logged:
            return False
        self._logged[text] = now
        return True
