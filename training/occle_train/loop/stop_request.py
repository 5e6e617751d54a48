# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as a request to stop: after the present step while steps run, else at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """True, called, once the process was asked to stop.

    Attributes:
        signal: number of the signal that asked; 0 for none.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Whether the process was asked to stop."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """Exit code of a process that a signal stopped."""
        return 128 + self.signal


_waits = False
"""Whether a request waits for the present step; signals are the process's, so this is too."""


@contextmanager
def end_steps_first() -> Iterator[None]:
    """Inside the block a request to stop waits until it is asked for; outside, while targets are made, it interrupts at once."""
    global _waits
    _waits = True
    try:
        yield
    finally:
        _waits = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside the block, SIGINT (Ctrl-C) and SIGTERM set the request where steps run; a second Ctrl-C interrupts at once.

    Raises:
        KeyboardInterrupt: after Ctrl-C where no steps run.
        SystemExit: after SIGTERM there.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        again, request.signal = request.signal, number
        if number == signal.SIGINT and (again or not _waits):
            raise KeyboardInterrupt
        if not _waits:
            raise SystemExit(request.exit_code)
        if not again and os.environ.get("RANK", "0") == "0":
            os.write(2, b"stopping after this step; Ctrl-C again: at once\n")  # print may not be called from a handler

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
