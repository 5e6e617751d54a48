"""How often something may happen."""

from __future__ import annotations

import time


class RateLimiter:
    """Says yes at most so many times a second."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def allows(self, max_rate_hz: float) -> bool:
        """Whether the time has come again; 0 allows always. A yes counts as used."""
        now = time.monotonic()
        # A tenth of a period of slack: frames that come at just the allowed rate jitter around it.
        if max_rate_hz and now - self._last < 0.9 / max_rate_hz:
            return False
        self._last = now
        return True


class LogThrottle:
    """Lets a message through when it is new, or was last told more than `seconds` ago: the same problem fills no log."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._told: dict[str, float] = {}

    def should_log(self, text: str) -> bool:
        """Whether to tell it now."""
        now = time.monotonic()
        self._told = {known: when for known, when in self._told.items() if now - when < self._seconds}
        if text in self._told:
            return False
        self._told[text] = now
        return True
