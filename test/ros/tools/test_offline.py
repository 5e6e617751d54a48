# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle run` on bags and data sets, and that it says the same as the live node."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from node_rig import SECOND, lively_bundle, lively_occle, node_arguments, write_bag
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2
from small_kitti import write_sequence
from typer.testing import CliRunner

from occle_core.bags.bag_file import open_bag
from occle_core.mapping.storage import load_map
from occle_core.output_folder import OutputError
from occle_core.predictor import Predictor
from occle_core.sensors.messages import stamp_of
from occle_ros.bags.converter import convert
from occle_ros.cli import app
from occle_ros.messages.clouds import occupancy_from_cloud
from occle_ros.tools.offline_run import run_bag, run_dataset

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
STAMPS = [SECOND + number * SECOND // 5 for number in range(5)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("bundles") / "kitti")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "drive", STAMPS)


def voxels(bag: Path) -> list[PointCloud2]:
    with open_bag(bag) as reader:
        connections = [c for c in reader.connections if c.topic == "/occupancy/voxels"]
        return [deserialize_message(raw, PointCloud2) for _, _, raw in reader.messages(connections)]


def test_every_frame_is_written(bag: Path, bundle: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    summary = run_bag(bag, bundle, tmp_path / "out", pictures=2, on_progress=lambda done, total: reports.append((done, total)))
    assert (summary.frames, summary.failed) == (5, ())
    assert reports == [(number, 5) for number in range(1, 6)]
    predictor = Predictor.load(bundle)
    files = sorted((tmp_path / "out" / "frames").iterdir())
    assert [file.name for file in files] == [f"{number:06d}.npz" for number in range(5)]
    for file, message, stamp in zip(files, voxels(tmp_path / "out" / "occupancy.mcap"), STAMPS, strict=True):
        saved = np.load(file)
        assert (int(saved["stamp"]), stamp_of(message)) == (stamp, stamp)
        assert tuple(saved["origin"]) == predictor.grid.origin
        recorded = occupancy_from_cloud(message, predictor.grid, predictor.taxonomy)
        np.testing.assert_array_equal(recorded.labels, saved["labels"])
        np.testing.assert_array_equal(recorded.confidence, saved["confidence"])
        assert recorded.occupied.sum() > 1000
    pictures = sorted(file.name for file in (tmp_path / "out" / "pictures").iterdir())
    assert pictures == ["000001.png", "000001_cam2.png", "000003.png", "000003_cam2.png"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 5


def test_live_and_offline_say_the_same(bag: Path, bundle: Path, tmp_path: Path, ros_domain: int, start: Any) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the node's number: another one adds up in another order, which can change a confidence's last bit
    try:
        run_bag(bag, bundle, tmp_path / "offline")
    finally:
        torch.set_num_threads(threads)
    node = start(*node_arguments(bundle, bag / "calibration.yaml", use_sim_time=True))
    recorder = start("-m", "occle_ros.cli", "record", tmp_path / "live", "/occupancy/voxels=sensor_msgs/msg/PointCloud2")
    recorder.wait_for("recording", 30)
    node.wait_for("1 subscribers of voxels", 40)
    waits = ["--wait-for", "/lidar/points", "--wait-for", "/cam2/image"]
    player = start("-m", "occle_ros.cli", "play", bag, "--rate", "0.4", *waits)
    assert player.result() == 0, player.output
    end = time.monotonic() + 20
    while len(voxels(tmp_path / "live")) < len(STAMPS) and time.monotonic() < end:
        time.sleep(0.1)  # the last frame is still in the node
    node.interrupt()
    assert node.result(10) == 0, node.output
    recorder.interrupt()
    assert recorder.result(10) == 0, recorder.output
    live, offline = voxels(tmp_path / "live"), voxels(tmp_path / "offline" / "occupancy.mcap")
    assert [stamp_of(message) for message in live] == STAMPS
    for one, other in zip(live, offline, strict=True):
        assert one.header == other.header
        assert one.data == other.data


def test_a_network_that_looks_back_takes_the_poses_of_the_bag(tmp_path: Path) -> None:
    """The same labels come from the data set's own poses and from the bag's /tf, and other ones without poses."""
    root, bundle = write_sequence(tmp_path / "kitti", 3, poses=True), lively_occle(tmp_path / "occle")
    convert("semantickitti", root, tmp_path / "bag")
    run_dataset(root, bundle, tmp_path / "dataset")
    run_bag(tmp_path / "bag", bundle, tmp_path / "from_bag")
    (root / "sequences" / "08" / "poses.txt").unlink()
    run_dataset(root, bundle, tmp_path / "alone")
    labels = {
        out: [np.load(tmp_path / out / "frames" / f"{number:06d}.npz")["labels"] for number in range(3)]
        for out in ("dataset", "from_bag", "alone")
    }
    for number in range(3):
        # A pose that went through a quaternion differs in its last digits.
        assert (labels["from_bag"][number] == labels["dataset"][number]).mean() > 0.9999
    assert (labels["alone"][0] == labels["dataset"][0]).all()
    assert (labels["alone"][2] != labels["dataset"][2]).mean() > 0.001
    # With poses the frames make a map.
    one, other = (load_map(tmp_path / out / "map.occlemap") for out in ("dataset", "from_bag"))
    assert one.occupied.any() and (one.grid, one.frame_id) == (other.grid, other.frame_id)
    assert (one.log_odds == other.log_odds).mean() > 0.999
    assert json.loads((tmp_path / "dataset" / "summary.json").read_text())["counts"]["map"] == {"frames": 3}
    assert not (tmp_path / "alone" / "map.occlemap").exists()


def test_a_frame_that_fails_is_named_and_the_others_are_written(bundle: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", STAMPS[:3], empty=(1,))
    words = f"run --bag {bag} --bundle {bundle} --out {tmp_path / 'out'} --pictures 0 --engine torch"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 1
    assert "failed: 1.200: the point cloud is empty" in result.stderr
    assert sorted(file.name for file in (tmp_path / "out" / "frames").iterdir()) == ["000000.npz", "000002.npz"]


def test_missing_files_are_listed_before_the_first_frame(bundle: Path, tmp_path: Path) -> None:
    """By all commands that read a data set."""
    root = write_sequence(tmp_path, 4)
    scans = root / "sequences" / "08" / "velodyne"
    for number in (1, 3):
        (scans / f"{number:06d}.bin").write_bytes(b"")
    expected = f"2 files are missing or empty, of sequences 08 (2); the first: {scans / '000001.bin'}, {scans / '000003.bin'}"
    for words in (
        ["run", "--dataset", str(root), "--bundle", str(bundle), "--out", str(tmp_path / "run")],
        ["bag", "semantickitti", str(root), str(tmp_path / "bag")],
        ["play", str(root)],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1 and expected in result.stderr, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"sequences"}
    first = CliRunner().invoke(app, ["bag", "semantickitti", str(root), str(tmp_path / "bag"), "--limit", "1"])
    assert first.exit_code == 0, first.output


def test_an_early_end_is_never_only_aborted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """typer says "Aborted." of an EOFError, and nothing else."""

    def end(*arguments: object) -> None:
        raise EOFError

    monkeypatch.setattr("occle_ros.bags.converter.convert", end)
    result = CliRunner().invoke(app, ["bag", "kitti", str(tmp_path), str(tmp_path / "bag")])
    assert isinstance(result.exception, RuntimeError) and "Aborted" not in result.output


def test_nothing_is_overwritten_and_nothing_half_written(bag: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(OutputError, match="exists already"):
        run_bag(bag, bundle, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bag(bag, bundle, tmp_path / "other", on_progress=interrupt)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("run --out {tmp}/out", 2, "give either --bag or --dataset"),
        ("run --bag {tmp}/none --out {tmp}/out", 1, "there is no bag at"),
        ("run --dataset {tmp}/none --bundle {bundle} --out {tmp}/out", 1, "does not exist"),
        ("run --bag {bag} --bundle {tmp} --out {tmp}/out", 1, "bundle.yaml"),
        ("run --bag {bag} --bundle {bundle} --out {tmp}/out --config {tmp}/none.yaml", 1, "none.yaml"),
        ("run --bag {bag} --kind kitti --out {tmp}/out", 2, "are for --dataset"),
        ("play {tmp}/none", 1, "there is no bag or data set at"),
        ("view {tmp}/none --html {tmp}/page.html", 1, "there is no bag or data set at"),
        ("bag kitti {tmp}/none {tmp}/out", 1, "does not exist"),
        ("demo --rate fast", 2, "--rate must be auto or a number"),
        ("demo --data {tmp}/none --out {tmp}/out", 1, "does not exist"),
    ],
)
def test_errors_are_one_message_without_traceback(
    words: str, code: int, message: str, bag: Path, bundle: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, words.format(tmp=tmp_path, bag=bag, bundle=bundle).split())
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "frames").exists()
