# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Child Pythons without the seconds that imports take: forks of a server that has imported what is heavy and done nothing else.

What the interpreter does at its start and at its very end is not seen here. Tests of that, and at least one of each command that
runs long, start a Python of their own.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

HEAVY = [
    "forked_python", "torch", "torch.utils.data", "torch.nn.parallel", "cv2", "matplotlib.pyplot", "typer", "rich.progress",
    "pydantic", "yaml", "occle_core.predictor", "occle_core.viewer.sources",
    "occle_train.commands.fit", "occle_train.commands.fit_occle", "occle_train.commands.label", "occle_train.commands.simulate",
    "occle_train.commands.evaluate", "occle_train.commands.export", "occle_train.commands.runs",
    "rclpy", "occle_ros.node.process", "occle_ros.commands.common", "occle_ros.bags.player", "occle_ros.bags.recorder",
    "occle_ros.bags.dataset_player", "occle_ros.tools.offline_run",
]  # fmt: skip
"""What the server imports; what is not installed is left out."""
TESTS = Path(__file__).resolve().parent
PATH = os.pathsep.join([str(TESTS), str(TESTS.parent), str(TESTS.parent / "training"), os.environ.get("PYTHONPATH", "")])


class ForkedPython:
    """A child that runs `python ARGUMENTS` (-m module, -c code, or a script): its own process, signals, limits and exit.

    Args:
        arguments: as behind the word `python`.
        stdout: file of what it prints, unbuffered.
        stderr: file of its errors; None means that of `stdout`.
        cwd: working folder.
        environment: all its variables. What a C library reads when it is loaded (OMP_NUM_THREADS) is the server's: one thread.
        seconds: it ends itself, with all stacks in `stderr`, after this time.
        before: a function, such as os.setsid, that it calls before anything else.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        stdout: Path,
        stderr: Path | None = None,
        *,
        cwd: Path | str = ".",
        environment: Mapping[str, str] | None = None,
        seconds: float = 300.0,
        before: Callable[[], Any] | None = None,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(HEAVY)
        files = (os.devnull, str(stdout), str(stderr or stdout))
        variables = dict(os.environ if environment is None else environment)
        given = (list(map(str, arguments)), files, variables, str(Path(cwd).resolve()), seconds, before)
        self._process = context.Process(target=_run, args=given)
        with patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=PATH):  # of the server, which the first child starts
            self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code as of subprocess.Popen, None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """The exit code; subprocess.TimeoutExpired where it has not ended in time."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("python", seconds or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_python(arguments: Sequence[str | Path], *, timeout: float = 240.0, **given: Any) -> subprocess.CompletedProcess[str]:
    """As subprocess.run([sys.executable, *arguments], capture_output=True, text=True); `given` as of ForkedPython."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        child = ForkedPython(arguments, out, err, seconds=timeout, **given)
        try:
            code = child.wait(timeout + 10)
        finally:
            child.kill()
        return subprocess.CompletedProcess(list(map(str, arguments)), code, out.read_text(), err.read_text())


def _run(
    arguments: list[str],
    files: Sequence[str],
    environment: dict[str, str],
    cwd: str,
    seconds: float,
    before: Callable[[], Any] | None,
) -> None:
    gc.freeze()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    _open_streams(files)
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if before:
        before()
    code = _code_of(lambda: _start(arguments))
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what the arguments made; to take the server's modules apart, as the interpreter does, would take seconds
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).exit(code)  # with the handlers of C libraries


def _open_streams(files: Sequence[str]) -> None:
    """Make files the standard streams; the last two may be one."""
    source, out, err = files
    os.dup2(os.open(source, os.O_RDONLY), 0)
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
    os.dup2(1 if err == out else os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False), write_through=True) for number in (1, 2))
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr


def _start(arguments: list[str]) -> None:
    """What the interpreter does with its arguments."""
    first, *rest = arguments
    name = rest.pop(0) if first.startswith("-") else first
    where = os.getcwd() if first.startswith("-") else str(Path(name).resolve().parent)
    extra = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [where, *extra, *(path for path in sys.path if not Path(path).is_relative_to(TESTS))]
    sys.argv = [first, *rest]
    if first == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(name, "<string>", "exec"), main.__dict__)
    else:
        runpy.run_path(name, run_name="__main__")


def _code_of(run: Callable[[], None]) -> int:
    """The exit code, with what an interpreter prints at its end."""
    try:
        run()
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
