"""Domains, processes and pictures for the tests that start real ROS processes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS_DOMAIN_ID that no other test uses at the same time, set for this process and its children."""
    domain = 1 + (os.getpid() * 7 + next(_numbers)) % 100
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds_shm.xml"))
    return domain


class Process:
    """A child Python with a time limit, its output in a file."""

    def __init__(self, arguments: tuple[str, ...], log: Path, seconds: float) -> None:
        self._log = log
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as output:
            command = ["timeout", "--foreground", "-k", "3", str(seconds), sys.executable, *arguments]
            self._child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 15.0) -> None:
        """Until the output contains `text`; fails the test if the process ends before or the time is over."""
        end = time.monotonic() + seconds
        while text not in self.output:
            if self._child.poll() is not None or time.monotonic() > end:
                pytest.fail(f"{text!r} did not appear; exit code {self._child.poll()}, output:\n{self.output}")
            time.sleep(0.02)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal (`timeout` passes it on to the Python)."""
        self._child.send_signal(number)

    def result(self, seconds: float = 30.0) -> int:
        """Exit code, waiting for the end."""
        return self._child.wait(seconds)

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(4)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """start("-m", "occle_ros.recorder", ...) -> Process; whatever still runs is ended after the test."""
    processes: list[Process] = []

    def begin(*arguments: str | Path, seconds: float = 60.0) -> Process:
        process = Process(tuple(map(str, arguments)), tmp_path / f"process{len(processes)}.log", seconds)
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
