"""Counters and timings of a running node: for diagnostics, and for the report at its end."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from occle_ros.files import whole_file

KEPT_SAMPLES = 20_000


class Statistics:
    """What came in, what went out, what was lost and why, and how long it took. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._stages: dict[str, deque[float]] = {}
        self._latency: deque[float] = deque(maxlen=KEPT_SAMPLES)
        self._frames = 0
        self._recent: list[float] = []
        self._span: tuple[float, float] | None = None
        self._last_error = ""

    def count(self, group: str, reason: str, number: int = 1) -> None:
        """Add to a counter, for example group "dropped", reason "replaced"."""
        if number:
            with self._lock:
                self._counts.setdefault(group, Counter())[reason] += number

    def error(self, text: str) -> None:
        """Keep the newest error for the diagnostics and the report."""
        with self._lock:
            self._last_error = text

    def frame_done(self, now: float, latency_ms: float, stages: Mapping[str, float]) -> None:
        """A frame went through: `now` in seconds of a steady clock, milliseconds from its stamp, and per stage (NaN: not known)."""
        with self._lock:
            self._span = (self._span[0] if self._span else now, now)
            self._frames += 1
            if not math.isnan(latency_ms):
                self._latency.append(latency_ms)
                self._recent.append(latency_ms)
            for stage, milliseconds in stages.items():
                samples = self._stages.setdefault(stage, deque(maxlen=KEPT_SAMPLES))
                if not math.isnan(milliseconds):
                    samples.append(milliseconds)

    def take_recent(self) -> list[float]:
        """The latencies since the last call, milliseconds."""
        with self._lock:
            recent, self._recent = self._recent, []
        return recent

    def counts(self) -> tuple[dict[str, dict[str, int]], str]:
        """All counters by group and reason, and the newest error."""
        with self._lock:
            return {group: dict(sorted(counter.items())) for group, counter in sorted(self._counts.items())}, self._last_error

    def as_dict(self) -> dict[str, Any]:
        """All counters, the newest samples, and the rate between the first and the last frame."""
        counts, last_error = self.counts()
        with self._lock:
            seconds = self._span[1] - self._span[0] if self._span else 0.0
            return {
                "counts": counts,
                "rate_hz": (self._frames - 1) / seconds if seconds > 0 else 0.0,
                "latency_ms": list(self._latency),
                "stages_ms": {stage: list(samples) for stage, samples in self._stages.items()},
                "last_error": last_error,
            }

    def write(self, path: Path, header: Mapping[str, Any]) -> None:
        """The header's entries and `as_dict` as JSON; an older report stays until the new one is complete.

        Raises:
            OSError: it cannot be written.
        """
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps({**header, **self.as_dict()}, indent=1), "utf-8")


def percentiles(samples: list[float], at: tuple[int, ...] = (50, 95, 99)) -> dict[str, float]:
    """{"p50": ...} of samples; empty for none."""
    return {f"p{p}": float(np.percentile(samples, p)) for p in at} if samples else {}
