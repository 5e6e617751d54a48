# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Processes of a training end together: by a signal to the one that was started, which waits for them, or by the end of one."""

import os
import signal
import subprocess
import sys
import time

import pytest
from occle_train import process_launch
from occle_train.cli import is_expected, one_line
from occle_train.commands.training import is_first_process
from occle_train.process_launch import run_processes
from occle_train.runs.folder import RunOptions

SAVES = """
import os, pathlib, signal, sys, time
def save(number, frame):
    time.sleep(0.5)
    pathlib.Path(sys.argv[1], "saved" + os.environ["RANK"]).write_text(str(number))
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save), signal.signal(signal.SIGINT, save)
pathlib.Path(sys.argv[1], "began" + os.environ["RANK"]).touch()
time.sleep(60)
"""


def command(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_every_process_finds_the_others_and_the_exit_code_is_of_the_one_that_failed(tmp_path):
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1], os.environ['RANK']).write_text(str(sorted(os.environ.items())))"
    assert run_processes(command(code, tmp_path), 2) == 0
    found = [dict(eval((tmp_path / str(rank)).read_text())) for rank in range(2)]
    assert [(each["RANK"], each["LOCAL_RANK"], each["WORLD_SIZE"]) for each in found] == [("0", "0", "2"), ("1", "1", "2")]
    assert found[0]["MASTER_PORT"] == found[1]["MASTER_PORT"] and found[0]["MASTER_ADDR"] == "127.0.0.1"
    assert run_processes(command("import os, sys; sys.exit(3 * int(os.environ['RANK']))"), 2) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_reaches_all_once_and_is_waited_for(number, tmp_path):
    script = f"from occle_train.process_launch import run_processes; raise SystemExit(run_processes({command(SAVES, tmp_path)}, 2))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(command(script), env=environment, start_new_session=True)
    try:
        while len(list(tmp_path.iterdir())) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        os.killpg(parent.pid, number)  # as a terminal does
        assert parent.wait(30) == 128 + number
    finally:
        parent.kill()
    assert [(tmp_path / f"saved{rank}").read_text() for rank in range(2)] == [str(int(number))] * 2


def test_a_process_that_was_killed_is_said_and_the_others_do_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(process_launch, "GRACE", 0.3)
    began = time.monotonic()
    code = "import os, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), 9); time.sleep(60)"
    with pytest.raises(ChildProcessError, match="one of 2 processes was ended by signal 9; where memory is short"):
        run_processes(command(code), 2)
    assert time.monotonic() - began < 20
    lost = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:36")
    assert is_expected(lost) and "another process of this training has ended" in one_line(lost)


def test_torchruns_processes_need_one_run_folder(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="give all of them the same --out RUN"):
        is_first_process(RunOptions(), 2, "cpu", "fit", None, None)
