# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle run` says what it left out; nothing comes out of it twice under one name."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_rig import SECOND, lively_bundle, write_bag, write_calibration
from small_kitti import write_sequence
from typer.testing import CliRunner

from occle_core.datasets import open_dataset
from occle_core.output_folder import OutputError, new_folder
from occle_core.predictor import Predictor
from occle_ros.calibration.files import CalibrationError, find_calibration
from occle_ros.cli import app
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.common import time_from
from occle_ros.tools import offline_run as offline
from occle_ros.tools.offline_run import run_bag, run_dataset

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
T0 = 1_700_000_000 * SECOND
STAMPS = [T0 + number * SECOND // 10 for number in range(4)]
DISORDER = [T0, T0 + SECOND // 10, T0 + SECOND // 20, T0 + SECOND // 5]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("bundles") / "kitti")


def camera_clock(seconds: int) -> Callable[[int, Any], None]:
    def spoil(number: int, message: Any) -> None:
        if message.header.frame_id == "cam2_optical":
            message.header.stamp.sec += seconds

    return spoil


def no_stamp(number: int, message: Any) -> None:
    if message.header.frame_id == "velodyne":
        message.header.stamp = time_from(0)


def sixteen_bits(number: int, message: Any) -> None:
    if hasattr(message, "encoding"):
        message.encoding = "mono16"


def no_echoes(number: int, message: Any) -> None:
    if hasattr(message, "point_step"):
        raw = np.frombuffer(message.data, np.float32).reshape(-1, 4).copy()
        raw[: 100 * number] = 0
        message.data = array("B", raw.tobytes())


def disorder(number: int, message: Any) -> None:
    if message.header.frame_id == "velodyne":
        message.header.stamp = time_from(DISORDER[number])


LOSSES: dict[str, tuple[Callable[[int, Any], None], int, dict[str, dict[str, int]], str]] = {
    "camera clock ahead": (
        camera_clock(37), 4, {"masked": {"cam2:out_of_tolerance": 4}}, "frames with cam2 masked: 4 out of tolerance"
    ),
    "camera clock behind": (camera_clock(-37), 4, {"masked": {"cam2:stale": 4}}, "frames with cam2 masked: 4 stale"),
    "scans without stamps": (no_stamp, 1, {"synchronizer": {"scan_without_stamp": 3}}, "scans dropped: 3 without stamp"),
    "scans out of order": (disorder, 3, {"synchronizer": {"scan_out_of_order": 1}}, "scans dropped: 1 out of order"),
    "images of 16 bits": (sixteen_bits, 4, {"masked": {"cam2:unreadable_image": 4}}, "frames with cam2 masked: 4 unreadable image"),
    "no returns": (no_echoes, 4, {"points": {"no_return": 600}}, "points dropped: 600 no return"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOSSES)
def test_what_a_run_left_out_is_counted_by_reason(bundle: Path, tmp_path: Path, case: str) -> None:
    spoil, frames, counts, line = LOSSES[case]
    bag = write_bag(tmp_path / "bag", STAMPS, spoil=spoil)
    words = f"run --bag {bag} --bundle {bundle} --out {tmp_path / 'out'} --pictures 0 --engine torch"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == frames == len(list((tmp_path / "out" / "frames").iterdir()))
    found = {group: dict(reasons) for group, reasons in summary["counts"].items()}
    found.get("synchronizer", {}).pop("image_unused:cam2", None)  # of the scans that opened no frame, or that were too far away
    if not found.get("synchronizer"):
        found.pop("synchronizer", None)
    if case == "scans without stamps":
        counts = {**counts, "masked": {"cam2:out_of_tolerance": 1}}
    assert found == counts
    lines = result.stdout.splitlines()
    assert f"  {line}" in lines
    assert all(len(text) <= 80 for text in lines[1:]), lines
    assert not summary["failed"]
    assert ("note: cam2 is masked: /cam2/image: encoding 'mono16'" in result.stderr) is (case == "images of 16 bits")
    assert len(summary["notes"]) == (case == "images of 16 bits")


def test_a_run_that_leaves_nothing_out_says_nothing_of_it(bundle: Path, tmp_path: Path) -> None:
    summary = run_bag(write_bag(tmp_path / "bag", STAMPS[:2]), bundle, tmp_path / "out")
    assert (summary.frames, summary.failed, summary.counts, summary.notes) == (2, (), {}, ())


def scaled(factor: float, drop: float = 0.0) -> Callable[[int, Any], None]:
    """Intensities times a factor, and points some metres lower."""

    def spoil(number: int, message: Any) -> None:
        if hasattr(message, "point_step"):
            raw = np.frombuffer(message.data, np.float32).reshape(-1, 4) * np.float32([1, 1, 1, factor])
            message.data = array("B", (raw - np.float32([0, 0, drop, 0])).tobytes())

    return spoil


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (scaled(200), "lidar: intensities reach .* set parameter lidar.intensity_scale:=0.00392157"),
        (scaled(1, drop=1.6), "much of the scan lies below the voxel grid, which begins at z = -2 m"),
    ],
)
def test_scans_that_the_network_does_not_know_are_noted_once(
    bundle: Path, tmp_path: Path, spoil: Callable[[int, Any], None], note: str
) -> None:
    summary = run_bag(write_bag(tmp_path / "bag", STAMPS, spoil=spoil), bundle, tmp_path / "out")
    assert (summary.frames, len(summary.notes)) == (4, 1) and re.match(note, summary.notes[0]), summary.notes


def test_a_camera_in_its_body_frame_is_noted(bundle: Path, tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "kitti", 2)
    (file,) = folder.rglob("calib.txt")
    lines = [line for line in file.read_text().splitlines() if not line.startswith("Tr:")]
    file.write_text("\n".join([*lines, "Tr: 1 0 0 0 0 1 0 0 0 0 1 0"]) + "\n")
    (note,) = run_dataset(folder, bundle, tmp_path / "out").notes
    assert note.startswith("no point of the scan falls into the image of cam2")


def test_a_data_set_on_another_rigs_grid_is_noted(bundle: Path, tmp_path: Path) -> None:
    """Its scans lie 2 m lower than the network's grid: a bundle of another mounting."""
    folder = write_sequence(tmp_path / "kitti", 2)
    assert run_dataset(folder, bundle, tmp_path / "fits").notes == ()
    for file in folder.rglob("velodyne/*.bin"):
        scan = np.fromfile(file, np.float32).reshape(-1, 4)
        (scan - np.float32([0, 0, 1.6, 0])).tofile(file)
    (note,) = run_dataset(folder, bundle, tmp_path / "low").notes
    assert note.startswith("much of the scan lies below the voxel grid")


def test_a_run_of_which_nothing_comes_out_fails(bundle: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", STAMPS[:2], empty=(0, 1))
    words = f"run --bag {bag} --bundle {bundle} --out {tmp_path / 'out'} --pictures 0 --engine torch"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 1
    assert "  frames that failed: 2" in result.stdout.splitlines()
    assert f"no frame was predicted; see {tmp_path / 'out' / 'summary.json'}" in result.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 0


def test_images_that_a_data_set_lacks_are_counted(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(write_sequence(tmp_path / "kitti", 3))
    whole = dataset.frame

    def frame(i: int) -> Any:
        return replace(whole(i), images=[None]) if i == 1 else whole(i)

    monkeypatch.setattr(dataset, "frame", frame)
    monkeypatch.setattr(offline, "open_dataset", lambda *given, **options: dataset)
    summary = run_dataset(tmp_path / "kitti", bundle, tmp_path / "out")
    assert (summary.frames, summary.counts) == (3, {"masked": {"cam2:no_image": 1}})


def test_a_second_run_with_the_same_name_is_refused_before_it_touches_anything(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, out = write_bag(tmp_path / "bag", STAMPS[:1]), tmp_path / "out"
    with new_folder(out) as first:
        (first / "frames").mkdir()
        (first / "frames" / "000000.npz").write_text("mine")
        with monkeypatch.context() as patched:
            patched.setattr(Predictor, "load", lambda *given, **more: pytest.fail("the network was loaded first"))
            with pytest.raises(OutputError, match=rf"another process is writing {out} at this moment; wait for"):
                run_bag(bag, bundle, out)
        assert (first / "frames" / "000000.npz").read_text() == "mine"
    assert [file.name for file in out.iterdir()] == ["frames"]
    with pytest.raises(OutputError, match="exists already"):
        run_bag(bag, bundle, out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bag", "out"]


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    out, left = tmp_path / "out", tmp_path / ".out.partial"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom occle_core.output_folder import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n (folder / 'half').mkdir()\n print('in', flush=True)\n time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None and run.stdout.readline() == "in\n"
        with pytest.raises(OutputError, match="another process"), new_folder(out):
            pytest.fail("two at once")
        run.send_signal(signal.SIGKILL)
        run.wait(10)
        assert (left / "half").is_dir()
        with new_folder(out) as folder:
            assert not list(folder.iterdir())
            (folder / "whole").write_text("")
    finally:
        run.kill()
        run.wait(10)
    assert [file.name for file in out.iterdir()] == ["whole"] and not left.exists()


def test_paths_may_contain_the_mark_of_a_scene(tmp_path: Path) -> None:
    folder = tmp_path / "run #2"
    folder.mkdir()
    write_calibration(folder / "calibration.yaml")
    assert list(find_calibration(str(folder / "calibration.yaml")).cameras) == ["cam2"]
    root = write_sequence(folder / "kitti#1", 1, name="07")
    write_sequence(root, 1, name="08")
    assert find_calibration(f"{root}#08").cameras["cam2"].width == 160
    with pytest.raises(CalibrationError, match="07, 08"):
        find_calibration(str(root))
    with pytest.raises(ConfigError, match="there is no"):
        find_calibration(f"{folder}/nothing#08")
