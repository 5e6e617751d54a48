# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Domains and child processes for the tests that start real ROS processes."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forked_python import ForkedPython

from occle_ros.system.environment import PROFILE_VARIABLES, profile_variable

ROOT = Path(__file__).resolve().parents[2]
_LOCKS = Path(f"/tmp/occle_test_domains_{os.getuid()}")
_DOMAINS = range(1, 101)
"""Whose ports lie below those that the system hands out."""


@contextmanager
def own_domain(environment: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS_DOMAIN_ID for this process and its children that no other test of this machine has while the `with` lasts.

    Every number has a file that is locked, for runs of other processes and checkouts. The one whose use lies longest back is
    taken, so that nobody is left in it.
    """
    _LOCKS.mkdir(exist_ok=True)
    files = [_LOCKS / str(domain) for domain in _DOMAINS]
    for file in sorted(files, key=lambda file: file.stat().st_mtime if file.exists() else 0.0):
        with file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            environment.setenv("ROS_DOMAIN_ID", file.name)
            for variable in PROFILE_VARIABLES:
                environment.delenv(variable, raising=False)
            environment.setenv(profile_variable(), str(ROOT / "config" / "fastdds_shm.xml"))
            try:
                yield int(file.name)
            finally:
                os.utime(file)
            return
    pytest.fail(f"every ROS domain is in use: the files in {_LOCKS} are locked")


class Process:
    """A child Python with a time limit, its output in a file; killed `grace` seconds after it was asked to end."""

    def __init__(self, arguments: tuple[str, ...], log: Path, seconds: float, grace: float = 8) -> None:
        self._log, self._grace = log, grace
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # ROS installations set it
        log.touch()
        environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self._child = ForkedPython(arguments, log, cwd=ROOT, environment=environment, seconds=seconds)

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

    @property
    def pid(self) -> int:
        """Of the Python."""
        return self._child.pid

    def segments(self) -> set[Path]:
        """Fast DDS's shared memory that it has mapped: its own, and that of peers which it has heard."""
        maps = Path(f"/proc/{self.pid}/maps").read_text()
        return {Path(name) for name in re.findall(r"/dev/shm/(?:fastdds|fastrtps)_[0-9a-f]{16}", maps)}

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    def result(self, seconds: float = 30.0) -> int:
        """Exit code, waiting for the end."""
        return self._child.wait(seconds)

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(self._grace)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


@contextmanager
def ready_node(arguments: Sequence[str], log: Path, seconds: float = 300) -> Iterator[Process]:
    """A node process whose bundle is loaded; ended with the `with`."""
    node = Process(tuple(arguments), log, seconds)
    try:
        node.wait_for("ready: bundle", 60)
        yield node
    finally:
        node.end()


def spin_until(executor: Any, done: Callable[[], Any], seconds: float) -> bool:
    """Spin until `done`; False if it did not come true in time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        executor.spin_once(timeout_sec=0.02)
    return True


def wait_for_size(bag: Path, size: int, seconds: float = 30.0) -> None:
    """Wait until the files of a recording have this many bytes."""
    end = time.monotonic() + seconds
    while sum(file.stat().st_size for file in bag.glob("*.mcap")) < size:
        assert time.monotonic() < end, f"{bag} did not grow to {size} bytes"
        time.sleep(0.05)
