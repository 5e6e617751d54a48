# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle view` on bags, recordings, results and the running node."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_rig import SECOND, lively_bundle, node_arguments, sensors, write_bag
from small_kitti import write_sequence
from typer.testing import CliRunner

from occle_core.bundle import read_spec
from occle_core.datasets import open_dataset
from occle_core.viewer.sources import Selection
from occle_core.viewer.view_frame import ViewError
from occle_ros.bags.converter import convert
from occle_ros.cli import app
from occle_ros.config.node_config import NodeConfig
from occle_ros.tools.demo_pictures import DemoPictures
from occle_ros.tools.offline_run import run_bag
from occle_ros.viewer.live_source import live_source
from occle_ros.viewer.sources import open_source

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
FRAMES = 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("bundles") / "kitti")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sequence(tmp_path_factory.mktemp("data"), FRAMES, poses=True)


@pytest.fixture(scope="module")
def bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert("semantickitti", data, tmp_path_factory.mktemp("bags") / "drive").path


@pytest.fixture(scope="module")
def results(bag: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run_bag(bag, bundle, out, pictures=1)
    return out


def test_all_sources_show_the_same_drive(data: Path, bag: Path, results: Path, bundle: Path) -> None:
    """Bag, data set and results: the same voxels, and where TF and pose file tell, the same way."""
    whole = Selection()
    sources = [open_source(path, whole, bundle) for path in (bag, data, results)]
    assert [(source.total, source.count) for source in sources] == [(FRAMES, FRAMES)] * 3
    dataset = open_dataset(data)
    drives = [list(source.frames) for source in sources]
    for number, (of_bag, of_data, of_run) in enumerate(zip(*drives, strict=True)):
        assert of_bag.occupancy.occupied.sum() > 1000
        for other in (of_data, of_run):
            np.testing.assert_array_equal(of_bag.occupancy.labels, other.occupancy.labels)
            assert (of_bag.number, other.number) == (number, number)
        np.testing.assert_array_equal(of_bag.images["cam2"], of_data.images["cam2"])
        way = np.linalg.inv(dataset.pose(0)) @ dataset.pose(number)
        for drive in drives:
            np.testing.assert_allclose(np.linalg.inv(drive[0].T_world_grid) @ drive[number].T_world_grid, way, atol=1e-5)
    assert np.linalg.norm(way[:3, 3]) > 2


def test_recorded_voxels_need_their_bundle(results: Path, bundle: Path) -> None:
    recording = results / "occupancy.mcap"
    with pytest.raises(ViewError, match="give the network that made them with --bundle"):
        open_source(recording, Selection())
    shown = list(open_source(recording, Selection(every=2), bundle).frames)
    assert [frame.number for frame in shown] == [0, 2]
    for frame in shown:
        saved = np.load(results / "frames" / f"{frame.number:06d}.npz")
        np.testing.assert_array_equal(frame.occupancy.labels, saved["labels"])
        assert frame.occupancy.stamp == int(saved["stamp"])


def test_the_command_writes_a_page(bag: Path, bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["view", str(bag), "--html", str(page), "--bundle", str(bundle), "--limit", "2"])
    assert done.exit_code == 0, done.output
    assert f"{page}: 2 frames" in done.output and "MB per frame" in done.output
    assert f"showing 2 of {FRAMES} frames; --limit and --every select others" in done.output
    assert page.read_text("utf-8").count('id="frame-') == 2


def test_the_page_of_the_demo_has_the_nodes_timings(data: Path, results: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    (out / "occupancy.mcap").symlink_to(results / "occupancy.mcap")
    dataset = open_dataset(data)
    drawn = DemoPictures(out, dataset, bundle, dataset.stamps)
    stages = {"receive": [9.0] * FRAMES, "voxels": [10.0, 20.0, 30.0, 40.0], "publish": [1.0]}
    page = drawn.write_page({"bundle": "small-1", "stages_ms": stages})
    assert page == out / "page.html"
    scene = re.search(r'id="scene">(.*?)</script>', page.read_text("utf-8"))
    assert scene is not None
    frames = json.loads(scene[1])["frames"]
    # "publish" has lost frames, and "receive" counts simulated time.
    assert [frame["timings"] for frame in frames] == [{"voxels": 10.0 * number} for number in range(1, FRAMES + 1)]
    assert all({"frame", "map"} <= frame["layers"].keys() for frame in frames)
    assert [file.name for file in drawn.draw(1)] == ["frame_000002.png"]


def test_without_the_extra_the_command_is_named(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    done = CliRunner().invoke(app, ["view", str(results), "--save", str(tmp_path / "x.rrd")])
    assert done.exit_code == 1 and "pip install" in done.output and "occle_ros[viewer]" in done.output
    assert "Traceback" not in done.output and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RESULTS", "--html", "a", "--web"], "give one of --html, --save and --web"),
        (["--html", "a"], "need a SOURCE"),
        (["--limit", "3"], "need a SOURCE"),
        (["nothing", "--html", "a"], "nothing"),
    ],
)
def test_what_does_not_fit_is_one_line(results: Path, words: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["view", *(str(results) if word == "RESULTS" else word for word in words)])
    lines = [line for line in done.output.splitlines() if line.strip()]
    assert done.exit_code in (1, 2) and len(lines) == 1 and message in lines[0]


def test_the_running_node_is_shown_with_its_inputs(bundle: Path, tmp_path: Path, ros_domain: int, start: Any) -> None:
    stamps = [SECOND + number * SECOND // 10 for number in range(40)]
    bag = write_bag(tmp_path / "drive", stamps)
    calibration = bag / "calibration.yaml"
    node = start(*node_arguments(bundle, calibration, use_sim_time=True))
    node.wait_for("ready: bundle", 60)
    config = NodeConfig.model_validate({"calibration_file": str(calibration), "bundle": str(bundle)})
    stop = threading.Event()
    source = live_source(config, None, "", stop)
    assert (source.count, source.camera_names) == (None, ("cam2",))
    start("-m", "occle_ros.cli", "play", bag, "--loop")
    timer = threading.Timer(60, stop.set)
    timer.start()
    shown = []
    for frame in source.frames:
        shown += [frame] if frame.images and frame.occupancy.timings else []
        if len(shown) == 3:
            stop.set()
    timer.cancel()
    grid = read_spec(bundle).voxel_grid
    assert len(shown) >= 3
    for frame in shown:
        number = round((frame.occupancy.stamp - SECOND) / (SECOND // 10)) % 40
        points, image = sensors(number)
        np.testing.assert_array_equal(frame.images["cam2"], image)
        np.testing.assert_allclose(frame.frame.points[:, :3], points[:, :3], atol=1e-6)
        assert frame.occupancy.grid == grid and frame.occupancy.occupied.sum() > 1000 and frame.map is None
        assert {"prepare", "convert"} <= frame.occupancy.timings.keys()
