# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Machines on which ROS cannot start: each is one line with the remedy, and no offline command needs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documented import assert_rows
from forked_python import run_python
from node_rig import SECOND, write_bag
from ros_process import ROOT, own_domain

from occle_ros.system import environment
from occle_ros.system.environment import TransportError, check_middleware, ignore_missing_middleware, installed_middleware

pytestmark = [pytest.mark.ros, pytest.mark.timeout(180)]
KINDS = [
    "RMW_IMPLEMENTATION that is not installed",
    "ROS_DOMAIN_ID that is none",
    "log folder that cannot be written",
    "/dev/shm that is too small",
]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "drive", [SECOND, 2 * SECOND])


def occle(*words: str | Path, prefix: tuple[str, ...] = (), **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run `occle` with variables set, or removed where they are None."""
    given = os.environ | {"PYTHONPATH": str(ROOT), **variables}
    environment = {name: value for name, value in given.items() if value is not None}
    command = [*prefix, sys.executable, "-m", "occle_ros.cli", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def forked_occle(*words: str | Path, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """As `occle`, where nothing depends on when rclpy is imported."""
    environment = {name: value for name, value in (os.environ | variables).items() if value is not None}
    return run_python(["-m", "occle_ros.cli", *words], cwd=ROOT, environment=environment, timeout=60)


def test_what_is_installed_is_known() -> None:
    assert "rmw_fastrtps_cpp" in installed_middleware() and "rmw_implementation" not in installed_middleware()


@pytest.mark.parametrize(
    "words", ["--help", "version", "node --help", "doctor --help", "run --bag {bag} --out {out} --pictures 0 --engine torch"]
)
def test_offline_commands_need_no_middleware(bag: Path, tmp_path: Path, words: str) -> None:
    ended = occle(*words.format(bag=bag, out=tmp_path / "out").split(), RMW_IMPLEMENTATION="rmw_nowhere_cpp")
    assert ended.returncode == 0, ended.stderr
    assert "rmw_nowhere_cpp" not in ended.stderr


@pytest.mark.parametrize("words", ["node", "play {bag}", "record {out} /t", "doctor", "demo --out {out}"])
def test_live_commands_name_the_variable_and_what_is_installed(bag: Path, tmp_path: Path, words: str) -> None:
    ended = occle(*words.format(bag=bag, out=tmp_path / "out").split(), RMW_IMPLEMENTATION="rmw_nowhere_cpp")
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1, ended.stderr
    assert re.search(
        r"RMW_IMPLEMENTATION=rmw_nowhere_cpp is not installed in this Python \(installed: .*rmw_fastrtps_cpp\); unset", ended.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("start", ["-m occle_ros.cli play /x", "-c 'from occle_ros.cli import occupancy_node as n; exit(n([]))'"])
def test_the_processes_of_the_launch_file_say_it_too(start: str) -> None:
    script = f"RMW_IMPLEMENTATION=rmw_nowhere_cpp exec '{sys.executable}' {start}"
    ended = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "RMW_IMPLEMENTATION=rmw_nowhere_cpp is not installed in this Python" in ended.stderr


def test_a_middleware_of_an_overlay_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "share/ament_index/resource_index/rmw_typesupport"
    index.mkdir(parents=True)
    (index / "rmw_mine_cpp").touch()
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_mine_cpp")
    with pytest.raises(TransportError):
        check_middleware()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/none{os.pathsep}{tmp_path}")
    check_middleware()
    ignore_missing_middleware()
    assert os.environ["RMW_IMPLEMENTATION"] == "rmw_mine_cpp"


@pytest.mark.parametrize("domain", ["abc", "233", "-1", "٣"])
def test_a_domain_that_is_none(bag: Path, domain: str) -> None:
    ended = forked_occle("play", bag, ROS_DOMAIN_ID=domain)
    assert ended.returncode == 1 and ended.stderr == (
        f"error: ROS_DOMAIN_ID={domain} is not a valid domain; set it to a number from 0 to 232, or unset it\n"
    )


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"HOME": None}, "HOME is not set"),
        ({"HOME": "/proc/none"}, "/proc/none/.ros/log cannot be written"),
        ({"HOME": "/dev/null"}, "/dev/null/.ros/log cannot be written"),
        ({"ROS_LOG_DIR": "/proc/none"}, "/proc/none cannot be written"),
        ({"ROS_HOME": "/proc/none"}, "/proc/none/log cannot be written"),
    ],
    ids=["no HOME", "HOME that cannot be made", "HOME that is no folder", "ROS_LOG_DIR", "ROS_HOME"],
)
def test_a_log_folder_that_cannot_be_written(
    bag: Path, tmp_path: Path, variables: dict[str, str | None], why: str, ros_domain: int
) -> None:
    clear: dict[str, str | None] = {"ROS_LOG_DIR": None, "ROS_HOME": None, "TMPDIR": str(tmp_path)}
    ended = forked_occle("play", bag, **clear | variables)
    assert ended.returncode == 0 and "played: 6 messages" in ended.stderr, ended.stderr
    (log,) = tmp_path.glob("ros_log_*")
    assert f"ROS logs to {log}: {why}" in ended.stderr and "set ROS_LOG_DIR to a writable folder" in ended.stderr


def test_a_folder_that_can_be_written_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "new" / "log"))
    environment.ensure_log_folder()
    assert os.environ["ROS_LOG_DIR"] == str(tmp_path / "new" / "log") and not capsys.readouterr().err
    assert not list((tmp_path / "new" / "log").iterdir())


@pytest.mark.parametrize(
    ("options", "said"), [("size=64m", "has 67 MB free"), ("size=1m", "has 1 MB free"), ("ro", "cannot be written")]
)
def test_a_small_shared_memory_is_said_and_nothing_is_left_in_it(bag: Path, tmp_path: Path, options: str, said: str) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    script = f'mount -t tmpfs -o {options} tmpfs /dev/shm && "$@"; code=$?; ls /dev/shm > "{tmp_path}/left"; exit $code'
    with pytest.MonkeyPatch.context() as patch, own_domain(patch):
        ended = occle("play", bag, prefix=("unshare", "-m", "bash", "-c", script, "bash"))
    assert ended.returncode == 0 and "played: 6 messages" in ended.stderr, ended.stderr
    assert f"/dev/shm {said}, and each process needs 71 MB: messages are sent by UDP" in ended.stderr
    assert "--ipc=host or --shm-size=1g" in ended.stderr and "RTPS" not in ended.stderr and "Traceback" not in ended.stderr
    assert "fastdds" not in (tmp_path / "left").read_text()


def test_the_segments_have_the_size_of_the_profile() -> None:
    text = (ROOT / "config" / "fastdds_shm.xml").read_text()
    assert [int(size) for size in re.findall(r"<segment_size>(\d+)<", text)] == [environment.SEGMENT_BYTES]


def test_every_kind_has_its_row() -> None:
    assert_rows("Bags, player and recorder", KINDS)
