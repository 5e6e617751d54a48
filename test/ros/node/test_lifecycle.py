# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The node's life as a lifecycle manager sees it: states, live parameters, services, and what viewers are left with."""

from __future__ import annotations

import csv
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import OccupancyGrid
from node_rig import CAMERA, SECOND, lively_bundle, node_arguments, sensors, write_calibration
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_process import spin_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from occle_core.sensors.messages import stamp_of
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import VOXEL_DTYPE, cloud_from_points
from occle_ros.messages.images import message_from_image
from occle_ros.system.ros_process import ros_node

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
NAME = "/occupancy"


class Robot:
    """Everything around the node: sensors, viewers and a manager."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.seen: dict[str, list[Any]] = {"voxels": [], "markers": [], "occupancy_grid": [], "overlay/cam2": []}
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.publishers = [
            node.create_publisher(kind, topic, 10)
            for kind, topic in ((CameraInfo, "/cam2/camera_info"), (Image, "/cam2/image"), (PointCloud2, "/lidar/points"))
        ]

    def view(self, topic: str, kind: Any, qos: Any = 10) -> Any:
        return self.node.create_subscription(kind, f"{NAME}/{topic}", self.seen[topic].append, qos)

    def spin_until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        assert spin_until(self._executor, done, seconds), "not in time"

    def call(self, kind: Any, service: str, request: Any) -> Any:
        client = self.node.create_client(kind, f"{NAME}/{service}")
        self.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self.spin_until(future.done, 40)
        self.node.destroy_client(client)
        return future.result()

    def change(self, transition: int) -> bool:
        return bool(self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=transition))).success)

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def set(self, name: str, value: Any) -> str:
        """ "" where it was accepted, else the reason."""
        kinds = {bool: ("bool_value", ParameterType.PARAMETER_BOOL),
                 float: ("double_value", ParameterType.PARAMETER_DOUBLE), int: ("integer_value", ParameterType.PARAMETER_INTEGER),
                 list: ("string_array_value", ParameterType.PARAMETER_STRING_ARRAY)}  # fmt: skip
        field, kind = kinds[type(value)]
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))])
        (result,) = self.call(SetParameters, "set_parameters", request).results
        assert result.successful == (not result.reason)
        return str(result.reason)

    def send(self, stamp: int) -> None:
        points, image = sensors(0)
        info, picture = info_from_camera(CAMERA, stamp, "lens"), message_from_image(image, stamp, "lens")
        messages = (info, picture, cloud_from_points(points, stamp, "velodyne"))
        for publisher, message in zip(self.publishers, messages):
            publisher.publish(message)
            time.sleep(0.05)  # topics are not ordered among each other

    def connected(self) -> bool:
        return all(publisher.get_subscription_count() for publisher in self.publishers)


def saved_timings(car: Robot) -> list[dict[str, str]]:
    """Rows of the table that ~/save_timings writes."""
    answer = car.call(Trigger, "save_timings", Trigger.Request())
    assert answer.success, answer.message
    return list(csv.DictReader(Path(answer.message.split(" (")[0]).read_text().splitlines()))


@contextmanager
def robot() -> Iterator[Robot]:
    with ros_node("robot") as node:
        yield Robot(node)


def test_a_managed_life(ros_domain: int, start: Any, tmp_path: Path) -> None:
    bundle = lively_bundle(tmp_path / "bundle")
    calibration = write_calibration(tmp_path / "calibration.yaml")
    options = {"autostart": False, "timings_folder": str(tmp_path / "times"), "overlay.max_rate_hz": 0.0}
    node = start(*node_arguments(bundle, calibration, **options))
    base = time.time_ns()
    with robot() as car:
        for topic, kind in (("voxels", PointCloud2), ("markers", MarkerArray), ("overlay/cam2", Image)):
            car.view(topic, kind)
        car.view("occupancy_grid", OccupancyGrid, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        assert car.state() == "unconfigured"
        assert "configure" in car.call(Trigger, "reload_bundle", Trigger.Request()).message
        assert not car.connected()
        assert car.change(Transition.TRANSITION_CONFIGURE)
        assert car.state() == "inactive"
        assert not car.connected()
        assert car.change(Transition.TRANSITION_ACTIVATE)
        car.spin_until(car.connected)
        node.wait_for("1 subscribers of voxels")

        def frame(number: int) -> None:
            before = len(car.seen["voxels"])
            car.send(base + number * SECOND)
            car.spin_until(lambda: len(car.seen["voxels"]) > before)

        frame(0)
        car.spin_until(lambda: all(car.seen.values()))
        assert {stamp_of(messages[-1]) for topic, messages in car.seen.items() if topic != "markers"} == {base}
        assert car.seen["occupancy_grid"][0].header.frame_id == "velodyne"
        assert car.seen["overlay/cam2"][0].header.frame_id == "lens"
        assert (car.seen["overlay/cam2"][0].width, car.seen["overlay/cam2"][0].encoding) == (160, "rgb8")
        values, counts = np.unique(np.array(car.seen["occupancy_grid"][0].data), return_counts=True)
        assert set(values) <= {-1, 0, 100}
        assert counts[list(values).index(-1)] > 2000  # behind the points and beside the camera

        # Live parameters hold from the next frame on; the others say what to do.
        all_of_them = car.seen["voxels"][-1].width
        assert car.set("voxels.include_unknown", True) == ""
        frame(1)
        whole = np.frombuffer(car.seen["voxels"][-1].data, VOXEL_DTYPE)
        assert np.count_nonzero(whole["label"] == 255) > 2000
        assert np.count_nonzero(whole["label"] != 255) == all_of_them
        assert car.set("voxels.include_unknown", False) == ""
        assert car.set("show.min_confidence", 0.9) == ""
        frame(2)
        assert 0 <= car.seen["voxels"][-1].width < all_of_them
        assert car.set("show.min_confidence", 0.0) == ""
        assert car.set("show.classes", ["car", "road"]) == ""
        frame(3)
        assert car.seen["voxels"][-1].width < all_of_them
        assert "no class cart" in car.set("show.classes", ["cart"])
        assert "restart" in car.set("sync.deadline_ms", 20.0)
        assert "must be less than" in car.set("occupancy_grid.max_height", -3.0)
        assert "range" in car.set("show.min_confidence", 1.5)

        # The bundle is reloaded while frames go through; a broken one is refused and the old one continues.
        answer = car.call(Trigger, "reload_bundle", Trigger.Request())
        assert answer.success, answer.message
        shutil.rmtree(bundle)
        answer = car.call(Trigger, "reload_bundle", Trigger.Request())
        assert not answer.success
        assert "Still running minkocc-tiny-kitti" in answer.message
        frame(4)

        car.spin_until(lambda: len(saved_timings(car)) == 5)  # a frame is counted after its last message went out
        rows = saved_timings(car)
        assert [int(row["stamp_ns"]) for row in rows] == [base + number * SECOND for number in range(5)]
        assert all(float(row["latency_ms"]) and float(row["convert_ms"]) > 0 for row in rows)

        # Deactivated, it takes its markers back and neither listens nor publishes; and it can be activated again.
        assert car.change(Transition.TRANSITION_DEACTIVATE)
        car.spin_until(lambda: car.seen["markers"][-1].markers[0].action == Marker.DELETEALL)
        car.spin_until(lambda: not car.connected())
        assert car.change(Transition.TRANSITION_ACTIVATE)
        car.spin_until(car.connected)
        time.sleep(0.5)  # the new publishers are found
        frame(5)
        assert car.change(Transition.TRANSITION_DEACTIVATE)
        assert car.change(Transition.TRANSITION_CLEANUP)
        assert not car.change(Transition.TRANSITION_CONFIGURE)  # the bundle is gone
        assert car.state() == "unconfigured"
    assert "there is no" in node.output
    node.interrupt(signal.SIGTERM)
    assert node.result(5) == 0, node.output


def test_nothing_is_left_in_shared_memory(ros_domain: int, start: Any, tmp_path: Path) -> None:
    """rclpy alone would leave a lifecycle node's participant, and with it 70 MB for every start."""
    bundle, calibration = lively_bundle(tmp_path / "bundle"), write_calibration(tmp_path / "calibration.yaml")
    node = start(*node_arguments(bundle, calibration))
    node.wait_for("ready: bundle", 40)
    own = node.segments()
    assert own and all(segment.exists() for segment in own)
    node.interrupt(signal.SIGINT)
    assert node.result(5) == 0, node.output
    assert not any(segment.exists() for segment in own)


def test_build_only_ends_by_itself(ros_domain: int, start: Any, tmp_path: Path) -> None:
    bundle, calibration = lively_bundle(tmp_path / "bundle"), write_calibration(tmp_path / "calibration.yaml")
    node = start(*node_arguments(bundle, calibration, build_only=True))
    assert node.result(40) == 0
    assert "engine built; exiting" in node.output
