# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as a request to stop after the present step."""

from __future__ import annotations

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


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside the block, SIGINT (Ctrl-C) and SIGTERM set the request; a second Ctrl-C interrupts at once."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
