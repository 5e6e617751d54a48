# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Silent topics and clocks, with real publishers in a domain of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from ros_process import spin_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.messages.common import time_from
from occle_ros.node.input_monitor import ClockMonitor, InputMonitor, StampMonitor, clock_problem
from occle_ros.system.ros_process import ros_node
from occle_ros.topics.inputs import diagnose_silence, input_topics, type_name
from occle_ros.topics.qos import input_qos, qos_profile

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]
CONFIG = resolve_topics(NodeConfig(), absolute_topic)
SCAN, IMAGE, INFO = input_topics(CONFIG)


def asked(reliability: str) -> dict[str, QoSProfile]:
    return {wanted.topic: qos_profile(reliability, 5) for wanted in input_topics(CONFIG)}


class Robot:
    """Our node and, in a context of its own, somebody else's."""

    def __init__(self, ours: Any, theirs: Any) -> None:
        self.ours, self.theirs = ours, theirs
        self._executor = SingleThreadedExecutor(context=ours.context)
        self._executor.add_node(ours)

    def spin_until(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        assert spin_until(self._executor, done, seconds), "not in time"

    def publisher(self, kind: type, topic: str, reliability: str = "reliable", durability: str = "volatile") -> Any:
        publisher = self.theirs.create_publisher(kind, topic, qos_profile(reliability, 5, durability))
        self.spin_until(lambda: any(p.node_name == "driver" for p in self.ours.get_publishers_info_by_topic(topic)))
        return publisher


@pytest.fixture
def robot(ros_domain: int) -> Iterator[Robot]:
    with ros_node("ours") as ours, ros_node("driver") as theirs:
        yield Robot(ours, theirs)


def test_type_names():
    assert type_name(PointCloud2) == "sensor_msgs/msg/PointCloud2" and type_name(Clock) == "rosgraph_msgs/msg/Clock"


def test_the_inputs_of_a_configuration():
    config = NodeConfig.model_validate(
        {"camera_names": ["left", "right"], "cameras": {"left": {"compressed": True}, "right": {"info_topic": ""}}}
    )
    assert [(i.topic, i.message, i.topic_parameter, i.once) for i in input_topics(config)] == [
        ("lidar/points", PointCloud2, "lidar.topic", False),
        ("left/image/compressed", CompressedImage, "cameras.left.topic", False),
        ("left/camera_info", CameraInfo, "cameras.left.info_topic", True),
        ("right/image", Image, "cameras.right.topic", False),
    ]


def test_nobody_publishes_anything(robot):
    problem = diagnose_silence(robot.ours, SCAN, input_qos(CONFIG))
    assert "no publisher of /lidar/points, and no publisher of any sensor_msgs/msg/PointCloud2 in ROS_DOMAIN_ID" in problem.text
    assert "ROS_DOMAIN_ID and RMW_IMPLEMENTATION" in problem.remedy


def test_another_topic_of_that_type_is_proposed_the_closest_name_first(robot):
    robot.publisher(PointCloud2, "/radar/targets")
    robot.publisher(PointCloud2, "/lidar_top/points")
    problem = diagnose_silence(robot.ours, SCAN, input_qos(CONFIG))
    assert "is published on /lidar_top/points, /radar/targets" in problem.text
    assert problem.remedy == "set parameter lidar.topic:=/lidar_top/points"


def test_an_occupancy_nodes_own_outputs_are_not_proposed(robot):
    for kind, name in ((PointCloud2, "voxels"), (Image, "overlay/cam2")):
        robot.ours.create_publisher(kind, f"/ours/{name}", 5)
    robot.spin_until(lambda: any(p.node_name == "ours" for p in robot.ours.get_publishers_info_by_topic("/ours/overlay/cam2")))
    for wanted in (SCAN, IMAGE):
        assert "no publisher of any" in diagnose_silence(robot.ours, wanted, input_qos(CONFIG)).text
    robot.publisher(Image, "/front/image_raw")
    assert diagnose_silence(robot.ours, IMAGE, input_qos(CONFIG)).remedy == "set parameter cameras.cam2.topic:=/front/image_raw"


def test_a_compressed_topic_beside_the_one_that_is_missing(robot):
    robot.publisher(CompressedImage, "/cam2/image/compressed")
    problem = diagnose_silence(robot.ours, IMAGE, input_qos(CONFIG))
    assert problem.remedy == "set parameters cameras.cam2.compressed:=true and cameras.cam2.topic:=/cam2/image/compressed"


def test_another_type_on_the_topic(robot):
    robot.publisher(CompressedImage, "/cam2/image")
    problem = diagnose_silence(robot.ours, IMAGE, input_qos(CONFIG))
    assert "/driver publishes /cam2/image as sensor_msgs/msg/CompressedImage, expected sensor_msgs/msg/Image" in problem.text
    assert problem.remedy == "set parameter cameras.cam2.compressed:=true"
    robot.publisher(Image, "/lidar/points")
    assert "set parameter lidar.topic to another topic" in diagnose_silence(robot.ours, SCAN, input_qos(CONFIG)).remedy


def test_a_publisher_that_offers_less_and_one_that_sends_nothing(robot):
    robot.publisher(PointCloud2, "/lidar/points", "best_effort")
    problem = diagnose_silence(robot.ours, SCAN, qos_profile("reliable", 5))
    assert problem.text == "/driver offers best_effort, requested is reliable on /lidar/points"
    assert problem.remedy == "set parameter qos.reliability:=best_effort"
    problem = diagnose_silence(robot.ours, SCAN, qos_profile("best_effort", 5))
    assert "compatible with our request, but no message arrives" in problem.text and "fastdds_shm.xml" in problem.remedy
    robot.publisher(CameraInfo, "/cam2/camera_info")
    assert "ros2 topic hz /cam2/camera_info" in diagnose_silence(robot.ours, INFO, qos_profile("reliable", 5)).remedy


def test_silence_is_told_once_a_minute_with_its_reason_and_ends_with_a_message(robot):
    clock = [100.0]
    watch = InputMonitor(robot.ours, input_topics(CONFIG), asked("reliable"), now=lambda: clock[0])
    assert watch.check() == []
    clock[0] += 4.9
    assert watch.check() == []
    clock[0] += 0.2
    warnings = watch.check()
    assert [w.split(" on ")[0] for w in warnings] == ["no scan", "no image of cam2", "no CameraInfo of cam2"]
    assert "no scan on /lidar/points for 5 s: no publisher of /lidar/points" in warnings[0]
    assert set(watch.problems) == {"/lidar/points", "/cam2/image", "/cam2/camera_info"}
    clock[0] += 30
    assert watch.check() == []
    for topic in watch.problems.copy():
        watch.on_message(topic)
    assert watch.check() == [] and watch.problems == {}
    clock[0] += 61
    warnings = watch.check()  # one CameraInfo is enough
    assert [w.split(" on ")[0] for w in warnings] == ["no scan", "no image of cam2"]
    clock[0] += 61
    assert len(watch.check()) == 2


def test_an_incompatible_publisher_is_told_at_once(robot):
    watch = InputMonitor(robot.ours, input_topics(CONFIG), asked("reliable"))
    received = []
    robot.ours.create_subscription(
        PointCloud2, SCAN.topic, received.append, qos_profile("reliable", 5), event_callbacks=watch.event_callbacks(SCAN.topic)
    )
    publisher = robot.publisher(PointCloud2, SCAN.topic, "best_effort")
    warnings: list[str] = []
    robot.spin_until(lambda: bool(warnings.extend(watch.check()) or warnings), 4.5)
    assert len(warnings) == 1 and "set parameter qos.reliability:=best_effort" in warnings[0]
    publisher.publish(PointCloud2())
    time.sleep(0.2)
    assert not received
    # The remedy in the warning works.
    robot.ours.create_subscription(PointCloud2, SCAN.topic, received.append, qos_profile("best_effort", 5))
    robot.spin_until(lambda: bool(publisher.publish(PointCloud2()) or received))
    watch.on_message(SCAN.topic)
    assert watch.check() == []


STAMP = 1_764_000_000_000_000_000


@pytest.mark.parametrize(
    ("image", "offset_ms", "words"),
    [
        (STAMP + 40_000_000, 0.0, None),
        (STAMP - 1_500_000_000, 0.0, None),  # late, or a frame missing: of the same clock
        (0, 0.0, "the stamps of /cam2/image are 0; set header.stamp"),
        (STAMP - 3_600_000_000_000, 0.0, "lie 3600.0 s before those of /lidar/points; .* cameras.cam2.time_offset_ms:=3600000"),
        (STAMP + 7_000_000_000, 500.0, "lie 7.5 s after those .* cameras.cam2.time_offset_ms:=-7000"),
        (STAMP - 3_600_000_000_000, 3_600_000.0, None),
    ],
)
def test_a_camera_with_another_clock_is_said_with_its_offset(image, offset_ms, words):
    now, said = 0.0, []
    monitor = StampMonitor([SCAN, IMAGE, INFO], {IMAGE.topic: round(offset_ms * 1e6)}, lambda: now)
    for second in range(75):
        for tenth in range(10):
            now = second + tenth / 10
            monitor.on_message(SCAN.topic, STAMP + round(now * 1e9))
            monitor.on_message(IMAGE.topic, image and image + round(now * 1e9))
        said += monitor.check(SCAN.topic)
    assert len(said) == (2 if words else 0), said  # once a minute
    assert all(re.search(f"no frame contains the image of cam2: .*{words}", text) for text in said)


def test_neither_a_restart_nor_a_camera_that_stopped_is_another_clock():
    now = 0.0
    monitor = StampMonitor([SCAN, IMAGE], {IMAGE.topic: 0}, lambda: now)
    for now in range(20):
        monitor.on_message(SCAN.topic, STAMP + now % 10 * 1_000_000_000)
        assert not monitor.check(SCAN.topic)  # between the first scan and the first image after a bag has restarted
        if now < 15:
            monitor.on_message(IMAGE.topic, STAMP + now % 10 * 1_000_000_000)


@pytest.mark.parametrize(
    ("age", "publishers", "words"),
    [
        (None, 0, None),
        (0.1, 0, None),
        (-0.5, 1, None),
        (9.0, 1, None),
        (4e7, 1, "use_sim_time:=true"),
        (4e7, 0, "ros2 bag play BAG --clock"),
        (-3.0, 0, "3.0 s in the future"),
    ],
)
def test_stamps_against_the_wall_clock(age, publishers, words):
    problem = clock_problem(age, publishers)
    assert (problem is None) if words is None else words in str(problem)


def test_simulated_time_without_clock_with_clock_and_standing_still(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    ours = rclpy.create_node("ours", context=context, parameter_overrides=[Parameter("use_sim_time", value=True)])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(ours)
    steady = [50.0]
    watch = ClockMonitor(ours, now=lambda: steady[0])
    try:
        assert watch.check() is None
        steady[0] += 6
        problem = watch.check()
        assert problem and "use_sim_time is true, but there is no publisher of /clock, so" in problem.text
        assert "--clock" in problem.remedy and "use_sim_time:=false" in problem.remedy
        with ros_node("player") as player:
            clock = player.create_publisher(Clock, "/clock", 10)
            end = time.monotonic() + 10
            while ours.get_clock().now().nanoseconds == 0 and time.monotonic() < end:
                clock.publish(Clock(clock=time_from(12_500_000_000)))
                executor.spin_once(timeout_sec=0.05)
            assert watch.check(age=0.1) is None
            steady[0] += 6
            problem = watch.check()
            assert problem and "/clock stopped at 12.500 s, 6 s ago" in problem.text
        end = time.monotonic() + 10
        while ours.count_publishers("/clock") and time.monotonic() < end:
            time.sleep(0.05)
        steady[0] += 6
        problem = watch.check()
        assert problem and "no publisher of /clock any more" in problem.text
    finally:
        executor.shutdown()
        ours.destroy_node()
        rclpy.shutdown(context=context)


def test_wall_time_with_old_stamps(robot):
    watch = ClockMonitor(robot.ours)
    assert watch.check(0.2) is None
    robot.publisher(Clock, "/clock")
    problem = watch.check(3e8)
    assert problem and problem.remedy == "start the node with use_sim_time:=true"
