"""Domains and child processes for the tests that start real ROS processes."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


def own_domain(environment: pytest.MonkeyPatch) -> int:
    """A ROS_DOMAIN_ID that no other test uses at the same time, set for this process and its children."""
    domain = 1 + (os.getpid() * 7 + next(_numbers)) % 100
    environment.setenv("ROS_DOMAIN_ID", str(domain))
    environment.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    environment.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds_shm.xml"))
    return domain


class Process:
    """A child Python with a time limit, its output in a file; killed `grace` seconds after the limit or a signal."""

    def __init__(self, arguments: tuple[str, ...], log: Path, seconds: float, grace: float = 8) -> None:
        self._log, self._grace = log, grace
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # ROS installations set it
        environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as output:
            command = ["timeout", "--foreground", "-k", str(grace), str(seconds), sys.executable, *arguments]
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

    @property
    def pid(self) -> int:
        """Of the Python."""
        return int(Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()[0])

    def segments(self) -> set[Path]:
        """Fast DDS's shared memory that it has mapped: its own, and that of peers which it has heard."""
        maps = Path(f"/proc/{self.pid}/maps").read_text()
        return {Path(name) for name in re.findall(r"/dev/shm/fastdds_[0-9a-f]{16}", maps)}

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
                self._child.wait(self._grace + 2)  # `timeout` itself kills the Python
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
