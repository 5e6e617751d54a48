# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle doctor` against real publishers, which send from a thread as drivers would."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from node_rig import CAMERA, sensors, write_calibration
from rich.console import Console
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from typer.testing import CliRunner

from occle_core.geometry.camera import Camera
from occle_ros.cli import app
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.presets import to_yaml
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.common import time_from
from occle_ros.messages.images import compressed_message, message_from_image
from occle_ros.system.ros_process import ros_node
from occle_ros.tools.doctor import Diagnosis, TopicProblem, diagnose
from occle_ros.tools.doctor_report import print_diagnosis
from occle_ros.tools.topic_listener import TopicReport
from occle_ros.topics.inputs import Problem
from occle_ros.topics.qos import qos_profile

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]
MS = 1_000_000


def pose(x: float) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = x
    return T


POINTS, PICTURE = sensors(0)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()


@dataclass
class Rig:
    """What the drivers do; a test spoils one thing."""

    scan_qos: str = "reliable"
    image_topic: str = "/cam2/image"
    points: np.ndarray = field(default_factory=lambda: POINTS)
    image: Callable[[int], Any] = lambda stamp: message_from_image(PICTURE, stamp, "cam2_optical")
    info: Camera | None = CAMERA
    scan_frame: str = "velodyne"
    image_delay: int = 0
    shift: int | None = 0
    clock: bool = False
    rear: np.ndarray | None = None


@contextmanager
def drivers(rig: Rig) -> Iterator[None]:
    """A scan, an image and a CameraInfo at 20 Hz until the `with` ends."""
    with ros_node("driver") as node:
        scans = node.create_publisher(PointCloud2, "/lidar/points", qos_profile(rig.scan_qos, 10))
        kind = CompressedImage if rig.image_topic.endswith("compressed") else Image
        rear = node.create_publisher(PointCloud2, "/rear/points", 10) if rig.rear is not None else None
        images = node.create_publisher(kind, rig.image_topic, 10)
        infos = node.create_publisher(CameraInfo, "/cam2/camera_info", 10) if rig.info else None
        clock = node.create_publisher(Clock, "/clock", 10) if rig.clock else None
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.05):
                stamp = 0 if rig.shift is None else time.time_ns() + rig.shift
                if clock:
                    clock.publish(Clock(clock=time_from(stamp)))
                scans.publish(cloud_from_points(rig.points, stamp, rig.scan_frame))
                if rear:
                    rear.publish(cloud_from_points(rig.rear, stamp, "rear_lidar"))
                images.publish(rig.image(max(stamp - rig.image_delay, 0)))
                if infos:
                    infos.publish(info_from_camera(rig.info, stamp, "cam2_optical"))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def config(ros_domain: int, tmp_path: Path) -> NodeConfig:
    return NodeConfig.model_validate({"calibration_file": str(write_calibration(tmp_path / "calibration.yaml"))})


def examined(rig: Rig, config: NodeConfig, **given: Any) -> Diagnosis:
    with drivers(rig):
        return diagnose(config, seconds=0.8, **given)


def problems(found: Diagnosis) -> dict[str, str]:
    return {finding.topic: str(finding.problem) for finding in found.problems}


def test_a_healthy_rig(config):
    found = examined(Rig(), config)
    assert problems(found) == {}
    scan, image, info = found.topics
    assert [row.topic for row in found.topics] == ["/lidar/points", "/cam2/image", "/cam2/camera_info"]
    assert scan.rate is not None and 8 < scan.rate < 25 and scan.age is not None and 0 <= scan.age < 0.5
    assert (scan.kind, scan.publishers, scan.qos) == ("sensor_msgs/msg/PointCloud2", 1, "reliable, volatile")
    assert (scan.frame_id, scan.content) == ("velodyne", "3000 points")
    assert (image.frame_id, image.content, image.calibration) == ("cam2_optical", "160 x 60 rgb8", "known")
    assert info.content == "160 x 60, no distortion"
    assert found.clock.startswith("wall clock")


def insisting(config: NodeConfig) -> NodeConfig:
    return config.model_copy(update={"qos": config.qos.model_copy(update={"reliability": "reliable"})})


def test_best_effort_publishers_are_heard_without_a_setting(config):
    found = examined(Rig(scan_qos="best_effort"), config)
    assert problems(found) == {}
    assert found.topics[0].qos == "best_effort, volatile" and found.topics[0].content == "3000 points"


def test_nothing_at_all(ros_domain):
    found = diagnose(NodeConfig(), seconds=0.5)
    problem = problems(found)
    assert set(problem) == {"the configuration", "/lidar/points", "/cam2/image", "/cam2/camera_info"}
    assert "the pose of the voxel grid is not known" in problem["the configuration"]
    assert "no publisher of /lidar/points" in problem["/lidar/points"]
    assert all(row.rate is None and row.publishers == 0 for row in found.topics)


def deep(stamp: int) -> Image:
    message = message_from_image(PICTURE, stamp, "c")
    message.encoding = "16UC1"
    return message


SPOILT: dict[str, tuple[Rig, str, str]] = {
    "best effort": (
        Rig(scan_qos="best_effort"), "/lidar/points", "requested is reliable.*; set parameter qos.reliability:=best_effort"
    ),
    "16 bits": (Rig(image=deep), "/cam2/image", "encoding '16UC1' has more than 8 bits"),
    "another size": (Rig(image=lambda t: message_from_image(PICTURE[:30], t, "c")), "/cam2/image", "is 160 x 30, but CameraInfo"),
    "no CameraInfo": (Rig(info=None), "/cam2/camera_info", "no publisher of any sensor_msgs/msg/CameraInfo"),
    "compressed": (
        Rig(image_topic="/cam2/image/compressed", image=lambda t: compressed_message(b"\xff\xd8", "jpeg", t, "c")),
        "/cam2/image", "cameras.cam2.compressed:=true and cameras.cam2.topic:=/cam2/image/compressed",
    ),
    "NaN only": (Rig(points=np.full((9, 4), np.nan, np.float32)), "/lidar/points", "of the last scan is left: 9 not finite"),
    "no returns only": (Rig(points=np.zeros((9, 4), np.float32)), "/lidar/points", r"is left: 9 no returns .*lidar.exclude_box"),
    "no points": (Rig(points=POINTS[:0]), "/lidar/points", "the last scan is empty"),
    "intensity": (Rig(points=POINTS * [1, 1, 1, 255]), "/lidar/points", "lidar.intensity_scale:=0.00392157"),
    "another LiDAR": (
        Rig(scan_frame="os_lidar"), "the configuration", r"in frame 'os_lidar', but .* is for 'velodyne'.*tf.lidar_frame:=velodyne",
    ),
    "damaged JPEG": (
        Rig(image_topic="/cam2/image/compressed", image=lambda t: compressed_message(JPEG[:900] + b"\xff\xd9", "jpeg", t, "c")),
        "/cam2/image/compressed", "is cut off or damaged",
    ),
    "no stamps": (Rig(shift=None), "/lidar/points", "all stamps are 0; set header.stamp to the time of the measurement"),
    "old bag": (Rig(shift=-10**17), "/lidar/points", r"100000000 s old by the wall clock; replay with a clock"),
    "late": (Rig(shift=-3 * 10**9), "/lidar/points", r"3.0 s old at their arrival; set the sensor's clock"),
    "offset": (Rig(image_delay=7_777 * MS), "/cam2/image", r"images are -7\d\d\d ms from the nearest scans.*one clock"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong_is_named_with_what_mends_it(config, case):
    rig, topic, words = SPOILT[case]
    if topic.endswith("compressed"):
        camera = config.cameras["cam2"].model_copy(update={"topic": topic, "compressed": True})
        config = config.model_copy(update={"cameras": {"cam2": camera}})
    problem = problems(examined(rig, insisting(config)))
    assert topic in problem and re.search(words, problem[topic]), problem


def test_points_that_are_left_out_are_counted_in_the_content(config):
    points = POINTS.copy()
    points[:7], points[7:12], points[12:15, :3] = 0, np.nan, (0.5, 0, 0)
    lidar = config.lidar.model_copy(update={"exclude_box": (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)})
    found = examined(Rig(points=points), config.model_copy(update={"lidar": lidar}))
    assert problems(found) == {}
    assert found.topics[0].content == "2985 points, dropped: 7 no returns (0, 0, 0), 5 not finite, 3 in lidar.exclude_box"


def test_a_grid_above_the_ground_is_seen(config):
    """The grid of the KITTI preset begins at z = -2 m; half of these points lie below."""
    found = examined(Rig(points=POINTS - np.float32([0, 0, 2, 0])), config)
    assert set(problems(found)) == {"/lidar/points"}
    assert "below the voxel grid, which begins at z = -2 m" in problems(found)["/lidar/points"]


def test_a_further_lidar_is_read_with_its_own_settings(config):
    """Its intensities are 0..255 where the main LiDAR's are 0..1, and where the body's box lies its own place says."""
    rear = POINTS * np.float32([1, 1, 1, 255])
    rear[:7, :3] = 0.5, 0, 0  # in its own frame; 8 m behind the main LiDAR it is not in the body's box
    further = {"rear": {"topic": "/rear/points", "intensity_scale": 1 / 255, "T_lidar": pose(-8.0).reshape(-1).tolist()}}
    content = config.model_dump() | {"lidar_names": ["rear"], "lidars": further}
    content["lidar"]["exclude_box"] = (0.4, -0.1, -0.1, 0.6, 0.1, 0.1)
    found = examined(Rig(rear=rear), NodeConfig.model_validate(content))
    assert problems(found) == {}
    assert {row.topic: row.content for row in found.topics}["/rear/points"] == "3000 points"
    content["lidars"]["rear"]["intensity_scale"] = 1.0
    found = examined(Rig(rear=rear), NodeConfig.model_validate(content))
    assert "set parameter lidars.rear.intensity_scale:=0.00392157" in problems(found)["/rear/points"]
    assert set(problems(found)) == {"/rear/points"}


def test_a_constant_delay_is_proposed_as_offset_and_the_offset_mends_it(config):
    strict = config.model_copy(update={"sync": config.sync.model_copy(update={"tolerance_ms": 5.0})})
    rig = Rig(image_delay=20 * MS)
    problem = problems(examined(rig, strict))
    assert "images are -20 ms from the nearest scans" in problem["/cam2/image"]
    assert "cameras.cam2.time_offset_ms:=20.0" in problem["/cam2/image"]
    camera = config.cameras["cam2"].model_copy(update={"time_offset_ms": 20.0})
    assert problems(examined(rig, strict.model_copy(update={"cameras": {"cam2": camera}}))) == {}


def test_simulated_time(config):
    found = examined(Rig(shift=-(10**17), clock=True), config)
    assert problems(found) == {}
    assert "use_sim_time:=true" in found.clock
    assert found.topics[0].age is not None and abs(found.topics[0].age) < 0.5


def test_any_topic_can_be_looked_at(config):
    found = examined(Rig(), config, topics=["/lidar/points", "/clock_of_nobody", "cam2/camera_info"])
    assert [row.topic for row in found.topics] == ["/lidar/points", "/cam2/camera_info"]
    assert list(problems(found)) == ["/clock_of_nobody"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_report_is_readable_at_any_width(config, width):
    rows = [
        TopicReport("/lidar/points", "sensor_msgs/msg/PointCloud2", 1, 10.0, 0.012, "best_effort, volatile",
            "118412 points, dropped: 1204 no returns (0, 0, 0), 3 not finite", "velodyne"),
        TopicReport("/camera/front/left/image_raw/compressed", "sensor_msgs/msg/CompressedImage", 2, 9.97, -0.5,
            "reliable, volatile", "1600 x 900 jpeg", "cam2_optical", "no_transform"),
        TopicReport("/cam2/camera_info", "sensor_msgs/msg/CameraInfo"),
    ]  # fmt: skip
    problem = Problem("a publisher offers best_effort, requested is reliable", "set parameter qos.reliability:=best_effort")
    found = Diagnosis(
        rows, [TopicProblem("/lidar/points", problem)], "wall clock", ["a note that is much longer than a terminal " * 3]
    )
    out = io.StringIO()
    print_diagnosis(found, Console(file=out, width=width))
    assert out.getvalue().splitlines() == [
        "!! /lidar/points: 10.0 Hz, 12 ms old",
        "   118412 points, dropped: 1204 no returns (0, 0, 0), 3 not finite",
        "   PointCloud2 from 1 publisher (best_effort, volatile)",
        "   frame velodyne",
        "ok /camera/front/left/image_raw/compressed: 10.0 Hz, -500 ms old",
        "   1600 x 900 jpeg",
        "   CompressedImage from 2 publishers (reliable, volatile)",
        "   frame cam2_optical, calibration no_transform",
        "ok /cam2/camera_info: no message",
        "   CameraInfo from 0 publishers",
        "wall clock",
        "note: " + "a note that is much longer than a terminal " * 3,
        "1. /lidar/points: a publisher offers best_effort, requested is reliable",
        "   set parameter qos.reliability:=best_effort",
        "1 problems",
    ]


def test_a_pipe_gets_lines_of_80_columns(config, tmp_path):
    """As `occle doctor | less` shows them; only what names long paths or several topics is longer."""
    (tmp_path / "node.yaml").write_text(to_yaml(config))
    with drivers(Rig()):
        result = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "node.yaml"), "--seconds", "0.8"])
    assert all(len(line) <= 80 for line in result.stdout.splitlines()), result.stdout
    assert "ok /lidar/points: " in result.stdout and "   3000 points" in result.stdout.splitlines()


def test_the_command_ends_with_1_when_something_is_wrong(config, tmp_path):
    (tmp_path / "node.yaml").write_text(to_yaml(config))
    arguments = ["doctor", "--config", str(tmp_path / "node.yaml"), "--seconds", "0.8"]
    with drivers(Rig()):
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "no problems" in result.output
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert "no publisher of /lidar/points" in result.output.replace("\n", " ")
