# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_process import wait_for_size
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from typer.testing import CliRunner

from occle_core.bags.bag_file import open_bag
from occle_core.bags.new_bag import new_bag, offered_qos
from occle_core.bags.storage import TYPES, BagError
from occle_core.sensors.messages import nanoseconds
from occle_ros.bags import player
from occle_ros.bags.player import PlayError, PlayOptions, play_bag
from occle_ros.bags.recorder import record
from occle_ros.cli import app
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.common import header
from occle_ros.messages.images import message_from_image
from occle_ros.system.ros_process import use_shared_memory_profile

pytestmark = pytest.mark.ros

MILLISECOND = 1_000_000
START = 1_700_000_000_000_000_000
FRAMES, PERIOD_MS = 12, 50
TOPICS = {
    "/lidar/points": "sensor_msgs/msg/PointCloud2",
    "/cam2/image": "sensor_msgs/msg/Image",
    "/cam2/camera_info": "sensor_msgs/msg/CameraInfo",
}


@pytest.fixture
def bag(tmp_path, smooth_image) -> Path:
    """Twelve frames at 20 Hz of a size that does not fit a UDP packet, and a /tf_static that wheels cannot publish."""
    out = tmp_path / "bag"
    points = np.random.default_rng(0).normal(0, 10, (30_000, 4)).astype(np.float32)
    image = smooth_image(240, 320)
    info = CameraInfo(header=header(START, "cam2_optical"))
    with new_bag(out) as writer:
        to = {
            name: writer.add_connection(name, kind, typestore=TYPES, offered_qos_profiles=[offered_qos()])
            for name, kind in TOPICS.items()
        }
        tf = writer.add_connection(
            "/tf_static", "tf2_msgs/msg/TFMessage", typestore=TYPES, offered_qos_profiles=[offered_qos(True)]
        )
        empty = TYPES.types["tf2_msgs/msg/TFMessage"]([])
        writer.write(tf, START, bytes(TYPES.serialize_cdr(empty, "tf2_msgs/msg/TFMessage")))
        for i in range(FRAMES):
            stamp = START + i * PERIOD_MS * MILLISECOND
            writer.write(to["/cam2/camera_info"], stamp, serialize_message(info))
            writer.write(to["/cam2/image"], stamp, serialize_message(message_from_image(image, stamp, "cam2_optical")))
            writer.write(to["/lidar/points"], stamp, serialize_message(cloud_from_points(points + i, stamp, "velodyne")))
    return out


def raw(bag: Path, topic: str) -> list[tuple[int, bytes]]:
    with open_bag(bag) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [(stamp, data) for _, stamp, data in reader.messages(connections)] if connections else []


def recorder(start, out: Path, *options: str, topics: dict[str, str] = TOPICS):
    process = start("-m", "occle_ros.cli", "record", out, *(f"{name}={kind}" for name, kind in topics.items()), *options)
    process.wait_for("recording /")
    return process


def test_what_is_played_is_recorded_byte_for_byte_at_its_pace(bag, tmp_path, start, ros_domain):
    recording = recorder(start, tmp_path / "recorded", "--idle-timeout=2")
    summary = play_bag(
        bag, PlayOptions(wait_for=list(TOPICS), depth=FRAMES)
    )  # a recorder that learns late of a publisher asks again
    assert recording.result() == 0, recording.output
    assert summary.sent == dict.fromkeys(TOPICS, FRAMES) and not summary.unacknowledged and not summary.interrupted
    for topic in TOPICS:
        played, got = raw(bag, topic), raw(tmp_path / "recorded", topic)
        assert len(got) == len(played)
        for (_, there), (_, here) in zip(got, played):
            assert there[: len(here)] == here and len(there) - len(here) < 4  # the wire rounds lengths up to whole words
        lateness = np.array([g - p for (g, _), (p, _) in zip(got, played)]) / 1e6
        assert np.abs(lateness - np.median(lateness)).max() < 400  # a busy machine; on a quiet one it is under 20 ms
    assert summary.seconds == pytest.approx((FRAMES - 1) * PERIOD_MS / 1e3, abs=1.5)
    if not player.message_class("tf2_msgs/msg/TFMessage"):
        assert "is not installed" in summary.skipped["/tf_static"]


def test_the_clock_tells_the_bag_time_at_the_rate(bag, tmp_path, start, ros_domain):
    recording = recorder(
        start, tmp_path / "recorded", "--best-effort", "--idle-timeout=1.5", topics={"/clock": "rosgraph_msgs/msg/Clock"}
    )
    began = time.monotonic()
    summary = play_bag(bag, PlayOptions(rate=0.5, clock_hz=50, wait_for=["/clock"]))
    assert summary.seconds >= 2 * (FRAMES - 1) * PERIOD_MS / 1e3 - 0.01
    assert time.monotonic() - began < 15
    assert recording.result() == 0, recording.output
    clocks = [nanoseconds(deserialize_message(data, Clock).clock) for _, data in raw(tmp_path / "recorded", "/clock")]
    assert len(clocks) > 20 and clocks == sorted(clocks)
    assert clocks[0] >= START and clocks[-1] <= START + (FRAMES - 1) * PERIOD_MS * MILLISECOND + 1
    steps = np.diff(clocks) / 1e7  # 50 Hz at half the pace: 10 ms of bag time, or a multiple where a tick was lost
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    assert np.median(steps.round()) == 1


def test_a_loop_starts_again_until_it_is_interrupted(bag, tmp_path, start, ros_domain):
    player = start("-c", f"from occle_ros.bags.player import *; print(play_bag({str(bag)!r}, PlayOptions(4, True, 0)))")
    recording = recorder(start, tmp_path / "recorded", "--idle-timeout=2")
    wait_for_size(tmp_path / "recorded", 4 * (bag / "bag.mcap").stat().st_size)
    player.interrupt(signal.SIGINT)
    assert recording.result() == 0, recording.output
    assert player.result(10) == 0, player.output
    assert "interrupted=True" in player.output and "Traceback" not in player.output
    got = [data for _, data in raw(tmp_path / "recorded", "/lidar/points")]
    played = [data for _, data in raw(bag, "/lidar/points")]
    first = played.index(got[0])
    assert got[: 3 * FRAMES] == (played * 4)[first : first + 3 * FRAMES] and len(got) >= 3 * FRAMES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_recording_is_whole(bag, tmp_path, start, ros_domain, number):
    recording = recorder(start, tmp_path / "recorded")
    play_bag(bag, PlayOptions(rate=4, wait_for=list(TOPICS), depth=FRAMES))
    recording.interrupt(number)
    assert recording.result(10) == 0, recording.output
    assert len(raw(tmp_path / "recorded", "/lidar/points")) == FRAMES
    assert not list(tmp_path.glob(".*partial*"))


def test_a_recorder_finds_types_in_the_graph_and_names_topics_that_nobody_publishes(bag, tmp_path, start, ros_domain):
    player = start("-c", f"from occle_ros.bags.player import *; play_bag({str(bag)!r}, PlayOptions(4, True))")
    recording = start("-m", "occle_ros.cli", "record", tmp_path / "recorded", "/cam2/image", "--idle-timeout=2")
    wait_for_size(tmp_path / "recorded", 4 * 240 * 320 * 3)
    player.interrupt()
    assert recording.result() == 0, recording.output
    assert len(raw(tmp_path / "recorded", "/cam2/image")) >= 3
    with pytest.raises(BagError, match=r"/nothing has no publisher after 0.3 s"):
        record({"/nothing": None}, tmp_path / "other", discovery_timeout=0.3)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):  # which is said as such, not as a timeout
        record({"/nothing": None}, tmp_path / "other", discovery_timeout=60)
    assert not (tmp_path / "other").exists()


def test_nobody_listens(bag, ros_domain):
    with pytest.raises(PlayError, match=r"no subscriber of /lidar/points within 0.2 s"):
        play_bag(bag, PlayOptions(wait_for=["/lidar/points"], wait_seconds=0.2))


def test_waiting_for_a_topic_that_the_bag_lacks_lists_its_topics(bag, ros_domain):
    with pytest.raises(
        PlayError,
        match=r"/lidar_points \(not in the bag\).*published topics: /cam2/camera_info, /cam2/image, /clock, /lidar/points",
    ):
        play_bag(bag, PlayOptions(wait_for=["/lidar_points"]))


def test_bags_that_cannot_be_played_are_refused(tmp_path, ros_domain):
    with pytest.raises(BagError, match="there is no bag"):
        play_bag(tmp_path / "none", PlayOptions())
    with new_bag(tmp_path / "empty"):
        pass
    with pytest.raises(BagError, match="has no messages"):
        play_bag(tmp_path / "empty", PlayOptions())
    with pytest.raises(PlayError, match="rate must be positive"):
        play_bag(tmp_path / "empty", PlayOptions(rate=0))


def test_the_domain_fixture_leaves_the_profile_alone(ros_domain):
    assert use_shared_memory_profile() is None


def test_a_bag_of_which_nothing_can_be_played_is_an_error(bag, tmp_path, ros_domain, monkeypatch):
    with open_bag(bag) as reader, new_bag(tmp_path / "tf") as writer:
        tf = writer.add_connection("/tf_static", "tf2_msgs/msg/TFMessage")
        mine = {c.topic: c for c in reader.connections}["/tf_static"]
        for _, stamp, data in reader.messages([mine]):
            writer.write(tf, stamp, data)
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)  # cannot be imported
    result = CliRunner().invoke(app, ["play", str(tmp_path / "tf")])
    assert result.exit_code == 1 and "error: no message was played: /tf_static: the message package" in result.stderr


def test_topics_that_ros_has_no_name_for_are_left_out_with_the_reason(tmp_path, ros_domain):
    """As other tools name them in mcap files; without a leading slash they are played in the namespace."""
    with new_bag(tmp_path / "odd") as writer:
        for topic in ("/cam-front/camera_info", "/1st", "cam2/camera_info"):
            info = writer.add_connection(topic, "sensor_msgs/msg/CameraInfo", typestore=TYPES)
            writer.write(info, START, serialize_message(CameraInfo()))
    result = CliRunner().invoke(app, ["play", str(tmp_path / "odd"), "--namespace", "robot"])
    assert result.exit_code == 0, result.output
    for topic in ("/cam-front/camera_info", "/1st"):
        assert f"{topic} is not played: Invalid topic name: " in result.stderr
    assert "played: 1 messages" in result.stderr
    assert player._in_namespace("cam2/image", "/robot/") == player._in_namespace("/cam2/image", "robot") == "/robot/cam2/image"


def test_a_bag_that_breaks_off_is_an_error_after_what_could_be_played(bag, ros_domain):
    file = bag / "bag.mcap"
    data = bytearray(file.read_bytes())
    data[len(data) * 2 // 3] ^= 0xFF
    file.write_bytes(data)
    result = CliRunner().invoke(app, ["play", str(bag), "--rate", "4"])
    assert result.exit_code == 1 and "its checksum does not fit" in result.stderr and "Traceback" not in result.output


@pytest.mark.parametrize("name", ["drive #1", "50% größe", "-bag"])
def test_paths_of_any_script_are_played_and_recorded(bag, tmp_path, start, ros_domain, monkeypatch, name):
    """Also with ~, which the shell does not expand in --report=~/x."""
    monkeypatch.setenv("HOME", str(tmp_path / "home é"))
    (tmp_path / "home é").mkdir()
    bag.rename(tmp_path / "home é" / name)
    words = ["record", "--idle-timeout", "1.5", "--", f"~/re {name}", "/lidar/points=sensor_msgs/msg/PointCloud2"]
    recording = start("-m", "occle_ros.cli", *words)
    recording.wait_for("recording /")
    words = ["play", "--rate", "4", "--wait-for", "/lidar/points", "--report", f"~/new/{name}.json", "--", f"~/{name}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "home é" / "new" / f"{name}.json").read_text())
    assert report["sent"] == dict.fromkeys(TOPICS, FRAMES) and report["interrupted"] is False
    assert recording.result() == 0, recording.output
    assert len(raw(tmp_path / "home é" / f"re {name}", "/lidar/points")) == FRAMES
