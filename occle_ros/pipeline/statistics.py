# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Counters and timings of a running node, for diagnostics, the report at shutdown and the timing table."""

from __future__ import annotations

import csv
import math
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write, write_json

KEPT_FRAMES = 10_000


class Statistics:
    """Thread-safe counters and timings.

    The timings of the newest `KEPT_FRAMES` frames are kept, in memory that is allocated at the first frame and does not grow.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._stamps = np.zeros(KEPT_FRAMES, np.int64)
        self._times: dict[str, NDArray[np.float64]] = {}  # "latency" and the stages; NaN: not known
        self._frames = 0
        self._recent: list[float] = []
        self._span: tuple[float, float] | None = None
        self._last_error = ""

    def count(self, group: str, reason: str, number: int = 1) -> None:
        """Add to a counter, for example of group "dropped", reason "replaced_by_newer"."""
        if number:
            with self._lock:
                self._counts.setdefault(group, Counter())[reason] += number

    def error(self, text: str) -> None:
        """Set the last error, for the diagnostics and the report."""
        with self._lock:
            self._last_error = text

    def frame_done(self, now: float, latency_ms: float, stages: Mapping[str, float], stamp: int = 0) -> None:
        """Add the timings of a finished frame.

        Args:
            now: seconds of a steady clock.
            latency_ms: from its stamp to its publication; NaN if not known.
            stages: milliseconds by stage.
            stamp: of its scan, nanoseconds.
        """
        with self._lock:
            self._span = (self._span[0] if self._span else now, now)
            row = self._frames % KEPT_FRAMES
            self._frames += 1
            if not math.isnan(latency_ms):
                self._recent.append(latency_ms)
            for name in stages:
                if name not in self._times:
                    self._times[name] = np.full(KEPT_FRAMES, np.nan)
            latencies = self._times.setdefault("latency", np.full(KEPT_FRAMES, np.nan))
            for name, samples in self._times.items():
                samples[row] = stages.get(name, math.nan)
            latencies[row], self._stamps[row] = latency_ms, stamp

    def take_recent(self) -> list[float]:
        """Latencies since the last call, milliseconds."""
        with self._lock:
            recent, self._recent = self._recent, []
        return recent

    def counts(self) -> tuple[dict[str, dict[str, int]], str]:
        """All counters by group and reason, and the last error."""
        with self._lock:
            return {group: dict(sorted(counter.items())) for group, counter in sorted(self._counts.items())}, self._last_error

    def as_dict(self) -> dict[str, Any]:
        """All counters, the kept timings, and the mean rate of frames."""
        counts, last_error = self.counts()
        with self._lock:
            seconds = self._span[1] - self._span[0] if self._span else 0.0
            samples = {name: values[self._order()] for name, values in self._times.items()}
            known = {name: values[~np.isnan(values)].tolist() for name, values in samples.items()}
            return {
                "counts": counts,
                "rate_hz": (self._frames - 1) / seconds if seconds > 0 else 0.0,
                "latency_ms": known.pop("latency", []),
                "stages_ms": known,
                "last_error": last_error,
            }

    def write(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write the header's entries and `as_dict` as JSON, atomically.

        Raises:
            OSError: it cannot be written.
        """
        write_json(path, {**header, **self.as_dict()})

    def write_table(self, path: Path) -> int:
        """Write the kept timings as CSV, one row per frame, oldest first: stamp in nanoseconds, latency and stages in milliseconds.

        Returns:
            The number of rows.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            order = self._order()
            stamps = self._stamps[order].tolist()
            times = {name: values[order].tolist() for name, values in self._times.items()}
        names = sorted(times, key=lambda name: name != "latency")
        with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["stamp_ns", *(f"{name}_ms" for name in names)])
            for row, stamp in enumerate(stamps):
                known = (times[name][row] for name in names)
                writer.writerow([stamp, *("" if math.isnan(value) else f"{value:.3f}" for value in known)])
        return len(stamps)

    def _order(self) -> NDArray[np.int64]:
        """Row indices of the kept frames, oldest first."""
        return np.arange(max(0, self._frames - KEPT_FRAMES), self._frames) % KEPT_FRAMES


def percentiles(samples: list[float], at: tuple[int, ...] = (50, 95, 99)) -> dict[str, float]:
    """Percentiles of samples, as {"p50": ...}; empty without samples."""
    return {f"p{p}": float(np.percentile(samples, p)) for p in at} if samples else {}
