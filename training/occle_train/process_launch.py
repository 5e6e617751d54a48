# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Launch of a training's processes on this machine, which end together: on a signal to stop, and when one of them fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

GRACE = 10.0
"""Seconds that the others have to end once a process has failed: they may wait for it for ever."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_processes(command: Sequence[str], count: int) -> int:
    """Run a command in several processes that find each other by torchrun's variables, until all have ended.

    Signals to stop are passed on to all, once each, and waited for. Called in the main thread.

    Args:
        command: of every process.
        count: how many.

    Returns:
        an exit code of those that failed; 0 where none did.

    Raises:
        ChildProcessError: one of them was killed.
    """
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: asked.append(number))
        for number in PASSED_ON
        if signal.getsignal(number) is not signal.SIG_IGN  # such as of nohup
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for variables in _variables(count):
            # In sessions of their own, or Ctrl-C in a terminal would reach them twice, which is to stop at once.
            processes.append(subprocess.Popen(command, env={**os.environ, **variables}, start_new_session=True))
        return _wait(processes, asked)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]], asked: list[int]) -> int:
    ends, passed = float("inf"), 0
    while None in (codes := [process.poll() for process in processes]) and time.monotonic() < ends:
        for number in asked[passed:]:
            passed += 1
            for process in processes:
                process.send_signal(number)
        if ends == float("inf") and any(codes):
            ends = time.monotonic() + GRACE
        time.sleep(0.1)
    # A signal's is negative: of a process that was killed and of those that miss it, the one that was killed is to be named.
    code = min((code for code in codes if code), default=0)
    if code < 0 and -code not in asked:
        raise ChildProcessError(
            f"one of {len(processes)} processes was ended by signal {-code}; where memory is short (see dmesg), use fewer "
            "processes or smaller batches; --resume continues from the last checkpoint"
        )
    return 128 - code if code < 0 else code


def _variables(count: int) -> list[dict[str, str]]:
    """What each process finds in its environment; as many threads in all as CPUs that this process may use."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if "OMP_NUM_THREADS" not in os.environ:
        common["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // count))
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
