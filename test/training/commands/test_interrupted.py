# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Commands that work in several processes, interrupted as a terminal does it, or by a kernel that is short of memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def workers_of(pid):
    """The processes of a command's pool."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(("struck", "code", "said"), [("all", 130, "interrupted"), ("last", 1, "a worker process died")])
def test_ctrl_c_or_a_killed_process_ends_it_at_once_and_leaves_nothing(struck, code, said, tmp_path):
    command = [sys.executable, "-m", "occle_train.cli", "simulate", tmp_path / "out", "--workers", "2"]
    command += ["--drives", "2", "--frames", "5000", "--scale", "0.1"]  # an hour
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while len(workers := workers_of(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)  # a process that dies while another starts is Python's own error
        if struck == "all":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        else:
            os.kill(max(workers), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code and said in errors and "Traceback" not in errors, errors
    assert not list((tmp_path / "out").iterdir())
