# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.presets import preset_for
from occle_ros.pipeline.statistics import Statistics, percentiles
from occle_ros.system.child_process import ChildProcess, ProcessError
from occle_ros.tools.demo_inputs import recorded_rate
from occle_ros.tools.demo_report import print_report, summarise

NODE = {
    "bundle": "small-1",
    "counts": {
        "received": {"scans": 10, "cam2": 10},
        "published": {"voxels": 7, "markers": 7},
        "dropped": {"replaced_by_newer": 1, "unusable_frame": 1},
        "masked": {"cam2:stale": 2},
        "points": {"no_return": 500},
        "synchronizer": {"scan_without_stamp": 1, "scan_overflow": 3, "image_unused:cam2": 4},
    },
    "rate_hz": 4.0,
    "latency_ms": [99.0, 102.0, 205.0],
    "stages_ms": {"receive": [-1.0, 2.0, 5.0], "convert": [1.0, 2.0, 3.0], "publish": []},
    "last_error": "scan 3: the point cloud is empty",
}


def test_every_frame_is_accounted_for() -> None:
    report = summarise({"sent": {"/lidar/points": 11}}, NODE, {"/occupancy/voxels": 6}, "/lidar/points", speed=0.5)
    frames = report["frames"]
    dropped = {"lost_in_transport": 1, "replaced_by_newer": 1, "unusable_frame": 1, "scan_without_stamp": 1}
    dropped["lost_before_recorder"] = 1
    assert report["losses"] == {"points": {"no_return": 500}}
    assert frames == {"sent": 11, "received": 10, "published": 7, "recorded": 6, "dropped": dropped}
    assert frames["sent"] == frames["recorded"] + sum(dropped.values())
    # Half the speed: until the scan arrives, a simulated millisecond takes two real ones. Latencies are 100, 104 and 210.
    assert report["latency_ms"]["p50"] == 104.0
    assert report["stages_ms"]["receive"] == {"p50": 4.0, "p95": pytest.approx(9.4)}
    assert report["stages_ms"]["convert"]["p50"] == 2.0


def test_the_table_shows_it() -> None:
    out = io.StringIO()
    report = summarise({"sent": {"/lidar/points": 11}}, NODE, {"/occupancy/voxels": 7}, "/lidar/points", speed=1.0)
    print_report(Console(file=out, width=120), report)
    texts = ("1 lost_in_transport, 1 replaced_by_newer", "2 cam2:stale", "500 no_return", "102 / 195 / 203 ms", "4.00 Hz")
    for text in (*texts, "cloud is empty"):
        assert text in out.getvalue()


def test_a_node_that_published_nothing_has_a_report_too() -> None:
    node = {"bundle": "b", "counts": {}, "rate_hz": 0.0, "latency_ms": [], "stages_ms": {}, "last_error": ""}
    report = summarise({"sent": {}}, node, {}, "/lidar/points", speed=1.0)
    assert report["frames"] == {"sent": 0, "received": 0, "published": 0, "recorded": 0, "dropped": {}}
    print_report(Console(file=io.StringIO()), report)


def test_statistics_count_and_measure(tmp_path: Path) -> None:
    statistics = Statistics()
    statistics.count("dropped", "replaced_by_newer", 2)
    statistics.count("points", "not_finite", 0)
    for second in range(5):
        statistics.frame_done(100.0 + second / 4, math.nan if second == 0 else 10.0 * second, {"convert": 1.0})
    result = statistics.as_dict()
    assert result["counts"] == {"dropped": {"replaced_by_newer": 2}}
    assert result["rate_hz"] == 4.0
    assert result["latency_ms"] == [10.0, 20.0, 30.0, 40.0]
    assert statistics.take_recent() == [10.0, 20.0, 30.0, 40.0]
    assert statistics.take_recent() == []
    statistics.write(tmp_path / "deep" / "report.json", {"bundle": "b"})
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["report.json"]


def test_percentiles_agree_with_sorting() -> None:
    samples = list(np.random.default_rng(0).normal(size=101))
    assert percentiles(samples, (50, 95)) == {"p50": pytest.approx(sorted(samples)[50]), "p95": pytest.approx(sorted(samples)[95])}
    assert percentiles([]) == {}


def test_which_bundle_belongs_to_which_cameras() -> None:
    assert preset_for(("cam2",)) == "kitti"
    assert preset_for(("CAM_BACK", "CAM_FRONT")) == "nuscenes"
    with pytest.raises(ConfigError, match="there is no preset for the cameras left, cam2"):
        preset_for(("left", "cam2"))


def test_recorded_rate() -> None:
    assert recorded_rate([0, 100_000_000, 200_000_000, 400_000_000]) == 10.0
    assert recorded_rate([5]) == 10.0


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_child_that_fails_shows_its_last_lines(tmp_path: Path) -> None:
    code = "import sys\nfor i in range(40): print('line', i)\nsys.exit('no such thing')"
    with ChildProcess("helper", python(code), tmp_path / "log") as child, pytest.raises(ProcessError) as raised:
        child.wait_for("ready", 20)
    assert "helper ended with exit code 1" in str(raised.value)
    assert "no such thing" in str(raised.value)
    assert "line 39" in str(raised.value)
    assert "line 3\n" not in str(raised.value)


def test_a_child_that_is_never_ready(tmp_path: Path) -> None:
    code = "import time; print('hello', flush=True); time.sleep(60)"
    late = pytest.raises(ProcessError, match=r"was not ready within 1\.5 s[\s\S]*hello")
    with ChildProcess("helper", python(code), tmp_path / "log") as child, late:
        child.wait_for("ready", 1.5)
    assert child.exit_code is not None


def test_a_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    ignore = "import signal, time\nfor n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)\n"
    code = ignore + "print('ready', flush=True)\ntime.sleep(60)"
    with ChildProcess("helper", python(code), tmp_path / "log") as child:
        child.wait_for("ready", 20)
        assert child.stop(0.4) == -9
