# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Child processes with a log file, timeouts, and guaranteed termination."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from occle_core.errors import OccleError

LAST_LINES = 15


class ProcessError(OccleError, RuntimeError):
    """A child process failed or timed out; the message ends with the last lines of its log."""


class ChildProcess:
    """Child process with a log file, as a context manager that terminates it.

    Args:
        name: for messages.
        command: program and arguments.
        log: file for stdout and stderr.
        environment: additional variables.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches only this process, which stops its children in order.
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop(3.0)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def text(self) -> str:
        """Content of the log."""
        return self.log.read_text("utf-8", errors="replace")

    def check(self) -> None:
        """Raise ProcessError if it has exited with an error."""
        code = self.exit_code
        if code:
            raise self._error(f"ended with exit code {code}")

    def wait_for(self, text: str, seconds: float) -> None:
        """Wait until its log contains `text`.

        Raises:
            ProcessError: it exited before, or timed out after `seconds`.
        """
        end = time.monotonic() + seconds
        while text not in self.text():
            if self.exit_code is not None and text not in self.text():
                raise self._error(f"ended with exit code {self.exit_code} before it was ready")
            if time.monotonic() > end:
                raise self._error(f"was not ready within {seconds:g} s (waited for {text!r} in its log)")
            time.sleep(0.05)

    def stop(self, seconds: float) -> int:
        """Stop it with SIGINT, with SIGTERM after half of `seconds`, with SIGKILL after all; returns its exit code."""
        for number, timeout in ((signal.SIGINT, seconds / 2), (signal.SIGTERM, seconds / 2), (signal.SIGKILL, 5.0)):
            if self.exit_code is not None:
                break
            self._process.send_signal(number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait(5.0)

    def _error(self, problem: str) -> ProcessError:
        last = "\n".join(f"  | {line}" for line in self.text().splitlines()[-LAST_LINES:]) or "  (it is empty)"
        return ProcessError(f"the {self.name} {problem}; the end of its log ({self.log}):\n{last}")
