# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What a recording keeps, however it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documented import assert_rows, rows_of
from mcap.reader import make_reader
from rclpy.serialization import serialize_message
from recordings import TYPE, numbers, record, talk, texts
from ros_process import ROOT, wait_for_size
from std_msgs.msg import String

from occle_core.bags.writer import BagWriter
from occle_core.output_folder import OutputError
from occle_ros.bags.recorder_folder import recording_folder

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
KINDS: list[str] = []
"""Ways in which a recording ends."""
kind = rows_of(KINDS)


@kind("`kill -9` of the recorder")
def test_what_was_received_survives_a_kill(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talker = talk(start)
    recorder = record(start, tmp_path / "drive")
    wait_for_size(tmp_path / "drive", 2000)
    before = numbers(tmp_path / "drive")  # also while it runs
    segments = recorder.segments()
    os.kill(recorder.pid, signal.SIGKILL)
    assert recorder.result(10) not in (0, 1)
    got = numbers(tmp_path / "drive")
    assert len(got) >= len(before) >= 10 and got == list(range(got[0], got[0] + len(got)))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == ["drive"]
    talker.interrupt()
    assert talker.result(10) == 0, talker.output
    remove(segments)


def remove(segments: set[Path]) -> None:
    """Shared memory of killed processes, when the others have ended."""
    for segment in segments:
        for file in segment.parent.glob(f"{segment.name}*"):
            file.unlink()


@kind("name of a recording that was killed")
def test_a_recorder_that_is_started_again_keeps_every_recording(ros_domain: int, start: Any, tmp_path: Path) -> None:
    """What systemd does with Restart=always: three times the same command, twice ended by kill -9."""
    out, names = tmp_path / "drive", ("drive_interrupted_1", "drive_interrupted_2", "drive")
    talker, segments, files = talk(start), set[Path](), []
    for number in range(3):
        recorder = record(start, out)
        if number:
            moved = tmp_path / names[number - 1]
            line = f"recorder: {out} held a recording that was interrupted ("
            assert recorder.output.startswith(line) and f"it is now {moved}: `occle play {moved}`" in recorder.output
            assert {file.name: file.read_bytes() for file in moved.iterdir()} == files[-1]
        wait_for_size(out, 2000)
        segments |= recorder.segments()
        if number < 2:
            os.kill(recorder.pid, signal.SIGKILL)
            assert recorder.result(10) not in (0, 1)
            files.append({file.name: file.read_bytes() for file in out.iterdir()})
    recorder.interrupt()
    assert recorder.result(10) == 0, recorder.output
    talker.interrupt()
    assert talker.result(10) == 0, talker.output
    remove(segments)
    got = [numbers(tmp_path / name) for name in names]
    assert [len(part) >= 10 for part in got] == [True] * 3
    assert [number for part in got for number in part] == sorted({number for part in got for number in part})
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".log") == sorted(names)
    played = start("-m", "occle_ros.cli", "play", tmp_path / "drive_interrupted_1", "--rate", "10")
    assert played.result(30) == 0 and f"played: {len(got[0])} messages" in played.output


@kind("name of a recording that was killed")
def test_what_is_moved_aside(tmp_path: Path) -> None:
    """Also what was killed, or lost its power, before its first message; and numbers that are taken."""
    whole = interrupted(tmp_path / "made")
    for size in (len(whole), 34, 20, 8, 3, 0):
        (tmp_path / "drive").mkdir()
        (tmp_path / "drive" / "drive.mcap").write_bytes(whole[:size])
        (tmp_path / "drive" / "mine.txt").write_text(str(size))
        with recording_folder(tmp_path / "drive"):
            assert not list((tmp_path / "drive").iterdir())
        assert not (tmp_path / "drive").exists(), "nothing was recorded"
    kept = {path.name: (path / "mine.txt").read_text() for path in tmp_path.glob("drive_interrupted_*")}
    assert kept == {f"drive_interrupted_{1 + at}": str(size) for at, size in enumerate((len(whole), 34, 20, 8, 3, 0))}
    assert texts(tmp_path / "drive_interrupted_1") == ["hello"]


def interrupted(folder: Path) -> bytes:
    """The file of a recording of one message that was killed; the folder is removed."""
    writer = BagWriter(folder)
    writer.write(writer.add_connection("/t", TYPE), 1, serialize_message(String(data="hello")))
    writer.flush()
    content = writer.file.read_bytes()
    writer.close()
    writer.remove()
    return content


@kind("second recorder with the name of one that runs")
def test_a_second_recorder_touches_nothing_of_the_first(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talk(start)
    first = record(start, tmp_path / "drive")
    wait_for_size(tmp_path / "drive", 1000)
    second = start("-m", "occle_ros.cli", "record", tmp_path / "drive", f"/t={TYPE}")
    assert second.result(20) == 1
    assert f"another process is writing {tmp_path / 'drive'} at this moment" in second.output and second.output.count("\n") == 1
    size = (tmp_path / "drive/drive.mcap").stat().st_size
    wait_for_size(tmp_path / "drive", size + 500)
    first.interrupt()
    assert first.result(10) == 0, first.output
    got = numbers(tmp_path / "drive")
    assert got == list(range(got[0], got[0] + len(got))) and f"{len(got):6d}  /t" in first.output


@kind("name that exists")
def test_nothing_that_exists_is_touched(tmp_path: Path) -> None:
    """A finished bag, an interrupted one of another writer, one of two that were interrupted, and what is no bag."""
    with BagWriter(tmp_path / "whole") as writer:
        writer.write(writer.add_connection("/t", TYPE), 1, b"abcd")
    content = interrupted(tmp_path / "made")
    for name, files in {
        "foreign": {"foreign.mcap": content.replace(b"occle", b"other", 1)},
        "two": {"two_0.mcap": content, "two_1.mcap": content},
        "folder": {},
        "texts": {"x.txt": b"mine"},
    }.items():
        (tmp_path / name).mkdir()
        for file, data in files.items():
            (tmp_path / name / file).write_bytes(data)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.mcap").write_bytes(content)
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    before = sorted(tmp_path.rglob("*"))
    for name in ("whole", "foreign", "two", "folder", "texts", "file", "link", "linked"):
        with pytest.raises(OutputError, match=rf"{name} exists already and is not overwritten"), recording_folder(tmp_path / name):
            pytest.fail("it was taken")
    assert sorted(tmp_path.rglob("*")) == before


@kind("closed terminal (SIGHUP)")
def test_a_closed_terminal_ends_a_whole_recording(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talk(start)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "occle_ros.cli", "record", str(tmp_path / "drive"), f"/t={TYPE}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def take_terminal() -> None:  # as a shell in a window has it
        os.setsid()
        os.close(os.open(os.ttyname(0), os.O_RDWR))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

    recorder = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal,
                                preexec_fn=take_terminal)  # fmt: skip
    try:
        os.close(terminal)
        wait_for_size(tmp_path / "drive", 1500)
        os.close(controller)
        assert recorder.wait(10) == 0
    finally:
        recorder.kill()
        recorder.wait()
    with (tmp_path / "drive/drive.mcap").open("rb") as file:
        assert make_reader(file).get_summary() is not None  # finished
    got = numbers(tmp_path / "drive")
    assert len(got) >= 10 and got == list(range(got[0], got[0] + len(got)))


@kind("full disk")
@pytest.mark.parametrize("limit", ["file size", "tmpfs"])
def test_a_full_disk_keeps_what_was_recorded(ros_domain: int, start: Any, tmp_path: Path, limit: str) -> None:
    out = tmp_path / "disk" / "full"
    out.parent.mkdir()
    talk(start, hz=20, size=20_000)
    python = f"'{sys.executable}' -m occle_ros.cli record '{out}' /t={TYPE}"
    command = ["bash", "-c", f"ulimit -f 700; exec {python}"]  # KiB
    if limit == "tmpfs":
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
        # The mount ends with the process: what is kept is copied out.
        script = (
            f"mount -t tmpfs -o size=700k tmpfs '{out.parent}' && {python}; code=$?; cp -r '{out}' '{tmp_path}/kept'; exit $code"
        )
        command = ["unshare", "-m", "bash", "-c", script]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1, ended.stderr
    # Fast DDS says that its shared memory does not fit into a limit on file sizes either.
    usual = ("recording /", "losses on the way to the recorder are not counted")  # the second before Kilted
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith(usual) and "RTPS" not in line]
    why = "File too large" if limit == "file size" else "No space left on device"
    assert line.startswith("error: ") and why in line and "full.mcap; free some space" in line and " are kept in " in line
    kept = out if limit == "file size" else tmp_path / "kept"
    got = numbers(kept)
    assert len(got) >= 10 and got == list(range(got[0], got[0] + len(got))) and f"{len(got)} messages until" in line


def test_a_disk_that_is_full_from_the_start_leaves_nothing(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talk(start, size=30_000)
    script = f"ulimit -f 8; exec '{sys.executable}' -m occle_ros.cli record '{tmp_path}/full' /t={TYPE}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "nothing was recorded; free some space" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "full").exists()


def test_what_cannot_be_recorded_leaves_nothing(ros_domain: int, start: Any, tmp_path: Path) -> None:
    for topics, message in (
        (("/t=my_msgs/msg/Mine",), "my_msgs/msg/Mine is not an installed standard message type"),
        (("/t=String",), "String is not an installed standard message type"),
        (("/a b=std_msgs/msg/String",), "/a b cannot be recorded"),
    ):
        recorder = start("-m", "occle_ros.cli", "record", tmp_path / "drive", *topics)
        assert recorder.result(20) == 1 and message in recorder.output and "Traceback" not in recorder.output
        assert not (tmp_path / "drive").exists()


def test_every_kind_has_its_row() -> None:
    assert_rows("Bags, player and recorder", KINDS)
