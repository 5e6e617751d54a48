# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The long run in short: nothing grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from node_rig import lively_bundle
from small_kitti import write_sequence

from benchmark.node.soak import Sample, growth, soak

FLAT = [Sample(minutes, 600.0, 40, 20, 8.0, 100.0, 120.0) for minutes in range(20)]


def check(tmp_path: Path, minutes: float, interval: float) -> None:
    report = soak(minutes, 0.5, interval, str(lively_bundle(tmp_path / "bundle")), "torch", write_sequence(tmp_path / "data", 2))
    assert len(report.samples) >= 5
    assert all(sample.rate_hz > 0 for sample in report.samples)
    # Latency is for a quiet machine: `make soak`.
    assert not [text for text in growth(report.samples) if not text.startswith("latency")]
    assert report.stop_seconds < 2
    assert report.exit_code == 0


@pytest.mark.ros
@pytest.mark.timeout(120)
def test_twelve_seconds(ros_domain: int, tmp_path: Path) -> None:
    check(tmp_path, 0.2, 0.5)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_minutes(ros_domain: int, tmp_path: Path) -> None:
    check(tmp_path, 2.0, 2.0)


def test_growth_is_told() -> None:
    assert growth(FLAT) == []
    warming = [replace(sample, memory_mb=100.0 * i) if i < 4 else sample for i, sample in enumerate(FLAT)]
    assert growth(warming) == []
    leaking = [replace(sample, memory_mb=600 + 4 * i, files=40 + i) for i, sample in enumerate(FLAT)]
    assert [text.split(" grew")[0] for text in growth(leaking)] == ["memory_mb", "files"]
    slower = [replace(sample, latency_p50_ms=100.0 + 10 * i) for i, sample in enumerate(FLAT)]
    assert growth(slower) == ["latency_p50_ms grew from 160.0 to 270.0"]
