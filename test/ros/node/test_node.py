# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The live node as a process of its own, fed through rclpy."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_rig import CAMERA, SECOND, lively_bundle, lively_occle, node_arguments, sensors, write_calibration
from rclpy.executors import SingleThreadedExecutor
from ros_process import spin_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64

from occle_core.frame import Frame
from occle_core.predictor import Predictor
from occle_core.sensors.messages import stamp_of
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import cloud_from_points, occupancy_from_cloud
from occle_ros.messages.images import message_from_image
from occle_ros.system.ros_process import ros_node

pytestmark = [pytest.mark.ros, pytest.mark.timeout(90)]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("bundles") / "kitti")


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    return write_calibration(tmp_path / "calibration.yaml")


class Driver:
    """Publishes sensor messages to the node and keeps what it publishes."""

    def __init__(self, node: Any) -> None:
        self.voxels: list[PointCloud2] = []
        self.latency: list[float] = []
        self.status: list[DiagnosticStatus] = []
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.cloud = node.create_publisher(PointCloud2, "/lidar/points", 10)
        self.image = node.create_publisher(Image, "/cam2/image", 10)
        self.info = node.create_publisher(CameraInfo, "/cam2/camera_info", 10)
        node.create_subscription(PointCloud2, "/occupancy/voxels", self.voxels.append, 10)
        node.create_subscription(Float64, "/occupancy/debug/pipeline_latency_ms", lambda m: self.latency.append(m.data), 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.status.extend(m.status), 10)

    def spin_until(self, done: Callable[[], bool], seconds: float = 15.0) -> None:
        assert spin_until(self._executor, done, seconds), "not in time"

    def connect(self) -> None:
        self.spin_until(lambda: all(p.get_subscription_count() for p in (self.cloud, self.image, self.info)))

    def send(self, stamp: int, points: np.ndarray | None = None, image: np.ndarray | None = None) -> None:
        if image is not None:
            self.info.publish(info_from_camera(CAMERA, stamp, "cam2_optical"))
            self.image.publish(message_from_image(image, stamp, "cam2_optical"))
            time.sleep(0.05)  # topics are not ordered among each other
        if points is not None:
            self.cloud.publish(cloud_from_points(points, stamp, "velodyne"))


@contextmanager
def driver() -> Iterator[Driver]:
    with ros_node("driver") as node:
        yield Driver(node)


def test_frames_in_voxels_out(ros_domain: int, start: Any, bundle: Path, calibration: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    node = start(*node_arguments(bundle, calibration, report_file=str(report)))
    node.wait_for("ready: bundle", 40)
    base = time.time_ns()
    with driver() as car:
        car.connect()
        node.wait_for("1 subscribers of voxels")
        for number in range(3):
            points, image = sensors(number)
            car.send(base + number * SECOND // 10, points, image)
            car.spin_until(lambda wanted=number + 1: len(car.voxels) == wanted)
        car.spin_until(lambda: len(car.latency) == 3 and len(car.status) > 0)
        assert [stamp_of(message) for message in car.voxels] == [base + number * SECOND // 10 for number in range(3)]
        assert {message.header.frame_id for message in car.voxels} == {"velodyne"}

        predictor = Predictor.load(bundle, threads=1)
        for number, message in enumerate(car.voxels):
            points, image = sensors(number)
            expected = predictor.predict(Frame(stamp_of(message), points, [image], [CAMERA]), "velodyne")
            live = occupancy_from_cloud(message, predictor.grid, predictor.taxonomy)
            assert expected.occupied.sum() > 1000
            assert len(np.unique(expected.labels)) > 2
            np.testing.assert_array_equal(live.labels, expected.labels)
            np.testing.assert_array_equal(live.confidence, expected.confidence)

        # A cloud with NaN: those points are left out, the rest is used.
        points, image = sensors(3)
        points[::3, 0] = np.nan
        car.send(base + SECOND, points, image)
        car.spin_until(lambda: len(car.voxels) == 4)
        # An empty cloud, a cloud of NaN only: refused, and the next frame comes out.
        car.send(base + 2 * SECOND, points[:0], image)
        node.wait_for("the point cloud is empty")
        car.send(base + 3 * SECOND, np.full((10, 4), np.nan, np.float32), image)
        node.wait_for("no point of the scan is left")
        # An image of another size than its CameraInfo says: the frame goes out without it.
        car.send(base + 4 * SECOND, points, image[:30])
        car.spin_until(lambda: len(car.voxels) == 5)
        # No image at all: the frame goes out without it at its deadline.
        car.send(base + 5 * SECOND, points)
        car.spin_until(lambda: len(car.voxels) == 6)
        assert stamp_of(car.voxels[-1]) == base + 5 * SECOND
        car.spin_until(lambda: any(key.key == "dropped.unusable_frame" for status in car.status for key in status.values))
        assert any(status.level != DiagnosticStatus.OK for status in car.status)
    assert "cam2 is masked: " in node.output

    began = time.monotonic()
    node.interrupt(signal.SIGTERM)
    assert node.result(5) == 0, node.output
    assert time.monotonic() - began < 2
    counts = json.loads(report.read_text())["counts"]
    assert counts["dropped"] == {"unusable_frame": 2}
    assert counts["received"] == {"cam2": 7, "scans": 8}
    assert counts["published"]["voxels"] == 6
    assert counts["masked"] == {"cam2:stale": 1, "cam2:wrong_size": 1}
    assert counts["points"] == {"not_finite": 3000}
    stages = json.loads(report.read_text())["stages_ms"]
    assert {"receive", "wait", "convert", "prepare", "publish"} <= set(stages)
    assert all(len(samples) == 6 for samples in stages.values())


def test_a_network_that_looks_back_publishes_and_reports_missing_poses(
    ros_domain: int, start: Any, calibration: Path, tmp_path: Path
) -> None:
    bundle, report = lively_occle(tmp_path / "occle"), tmp_path / "report.json"
    limits = {"diagnostics.latency_warn_ms": 60_000.0, "diagnostics.latency_error_ms": 60_000.0}  # above any latency here
    node = start(*node_arguments(bundle, calibration, report_file=str(report), **limits))
    node.wait_for("ready: bundle occle-tiny-kitti", 60)
    base = time.time_ns()
    predictor = Predictor.load(bundle, threads=1)
    with driver() as car:
        car.connect()
        node.wait_for("1 subscribers of voxels")
        for number in range(2):
            points, image = sensors(number)
            car.send(base + number * SECOND // 10, points, image)
            car.spin_until(lambda wanted=number + 1: len(car.voxels) == wanted, 30)
            expected = predictor.predict(Frame(base + number * SECOND // 10, points, [image], [CAMERA]))
            live = occupancy_from_cloud(car.voxels[number], predictor.grid, predictor.taxonomy)
            np.testing.assert_array_equal(live.labels, expected.labels)
            assert len(np.unique(expected.labels)) > 2
        car.spin_until(lambda: any("without history" in status.message for status in car.status))
    assert "frame without history: no transform from 'velodyne' to 'odom'" in node.output
    node.interrupt(signal.SIGTERM)
    assert node.result(5) == 0, node.output
    assert json.loads(report.read_text())["counts"]["history"] == {"no_pose": 2}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no bundle", "there is no"),
        ("empty bundle", "bundle.yaml"),
        ("no calibration", "the pose of the voxel grid is not known"),
        ("wrong calibration", "is not a rotation"),
        ("camera unknown", "has no camera 'left'"),
        ("misspelt", "did you mean sync.deadline_ms?"),
    ],
)
def test_a_configuration_that_cannot_run(
    ros_domain: int, bundle: Path, calibration: Path, tmp_path: Path, broken: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from occle_ros.node.process import main

    parameters: dict[str, Any] = {}
    if broken == "no bundle":
        parameters["bundle"] = str(tmp_path / "nowhere")
    if broken == "empty bundle":
        (tmp_path / "empty").mkdir()
        parameters["bundle"] = str(tmp_path / "empty")
    if broken == "no calibration":
        parameters["calibration_file"] = ""
    if broken == "wrong calibration":
        calibration.write_text(calibration.read_text().replace("1.0", "3.0"))
    if broken == "camera unknown":
        parameters["camera_names"] = ["left"]
    if broken == "misspelt":
        parameters["sync.dedline_ms"] = 10.0
    assert main(node_arguments(bundle, calibration, **parameters)[2:]) == 1
    assert message in capfd.readouterr().err
    assert not rclpy.ok()


def test_a_wrong_bundle_ends_the_process_with_code_1(ros_domain: int, start: Any, calibration: Path, tmp_path: Path) -> None:
    node = start(*node_arguments(tmp_path / "nowhere", calibration))
    assert node.result(30) == 1
    assert "parameter bundle: there is no" in node.output
    assert "Traceback" not in node.output
