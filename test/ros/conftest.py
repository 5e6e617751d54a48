# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Domains, processes and pictures for the tests that start real ROS processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ros_process import Process, own_domain


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test uses at the same time, set for this process and its children."""
    with own_domain(monkeypatch) as domain:
        yield domain


@pytest.fixture
def start(tmp_path: Path, ros_domain: int) -> Iterator[Callable[..., Process]]:
    """start("-m", "occle_ros.cli", "record", ...) -> Process in `ros_domain`; whatever still runs is ended after the test."""
    processes: list[Process] = []

    def begin(*arguments: str | Path, seconds: float = 60.0, grace: float = 8.0) -> Process:
        process = Process(tuple(map(str, arguments)), tmp_path / f"process{len(processes)}.log", seconds, grace)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.end()


@pytest.fixture
def smooth_image() -> Callable[..., np.ndarray]:
    """smooth_image(height, width, seed): (H, W, 3) uint8 RGB without sharp edges, so that JPEG changes it little."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        v, u = np.mgrid[0:height, 0:width] / max(height, width)
        phase = np.random.default_rng(seed).uniform(0, 6, 3)
        return np.stack([127 + 100 * np.sin(3 * u + 2 * v + p) for p in phase], -1).astype(np.uint8)

    return make
