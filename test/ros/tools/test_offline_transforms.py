# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle run` over bags whose extrinsics are on TF, or are of another LiDAR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_rig import CAMERA, SECOND, T_CAMERA_LIDAR, lively_bundle, sensors, write_bag
from rclpy.serialization import serialize_message
from typer.testing import CliRunner

from occle_core.bags.new_bag import new_bag, offered_qos
from occle_core.bags.storage import TYPES
from occle_ros.bags.reader import BagReader
from occle_ros.cli import app
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import message_from_image
from occle_ros.messages.transforms import transform_from_matrix
from occle_ros.pipeline.assemble import assemble
from occle_ros.tools.offline_run import run_bag

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
STAMPS = [1_700_000_000 * SECOND + number * SECOND // 10 for number in range(4)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("bundles") / "kitti")


def tf_bytes(parent: str, child: str, T: np.ndarray, stamp: int) -> bytes:
    """A TFMessage through rosbags: tf2_msgs has no PyPI wheel."""
    types, rigid = TYPES.types, transform_from_matrix(T)
    t, q = rigid.translation, rigid.rotation
    head = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp, SECOND)), parent)
    vector, rotation = types["geometry_msgs/msg/Vector3"](t.x, t.y, t.z), types["geometry_msgs/msg/Quaternion"](q.x, q.y, q.z, q.w)
    transform = types["geometry_msgs/msg/Transform"](vector, rotation)
    message = types["tf2_msgs/msg/TFMessage"]([types["geometry_msgs/msg/TransformStamped"](head, child, transform)])
    return bytes(TYPES.serialize_cdr(message, "tf2_msgs/msg/TFMessage"))


def raised(height: float) -> np.ndarray:
    T = np.eye(4)
    T[2, 3] = height
    return T


def tf_bag(out: Path, topics: dict[str, str], transforms: list[tuple[int, str, bytes]]) -> Path:
    """A bag without a calibration file: a scan each 100 ms, and transforms as (time, topic, message)."""
    kinds = {"/cam2/camera_info": "CameraInfo", "/cam2/image": "Image", "/lidar/points": "PointCloud2"}
    rows = [*transforms]
    for number, stamp in enumerate(STAMPS):
        points, image = sensors(number)
        rows += [
            (stamp, "/cam2/camera_info", serialize_message(info_from_camera(CAMERA, stamp, "cam2_optical"))),
            (stamp, "/cam2/image", serialize_message(message_from_image(image, stamp, "cam2_optical"))),
            (stamp, "/lidar/points", serialize_message(cloud_from_points(points, stamp, "velodyne"))),
        ]
    with new_bag(out) as writer:
        known = {topic: f"sensor_msgs/msg/{kind}" for topic, kind in kinds.items()} | topics
        connections = {
            topic: writer.add_connection(topic, kind, typestore=TYPES, offered_qos_profiles=[offered_qos()])
            for topic, kind in known.items()
        }
        for stamp, topic, data in sorted(rows, key=lambda row: row[0]):
            writer.write(connections[topic], stamp, data)
    return out


@pytest.mark.parametrize("tf", ["/tf", "/robot/tf"])
def test_extrinsics_on_tf_are_those_of_each_scans_time(tf: str, tmp_path: Path) -> None:
    """A mast that rises 1 m a second, reported between the scans; a camera whose driver sends its fixed place on /tf once."""
    mast = [(STAMPS[0] - SECOND // 20 + n * SECOND // 10, n) for n in range(6)]
    transforms = [(stamp, tf, tf_bytes("base_link", "velodyne", raised(1 + n / 10), stamp)) for stamp, n in mast]
    transforms.append((STAMPS[2], tf, tf_bytes("velodyne", "cam2_optical", np.linalg.inv(T_CAMERA_LIDAR), STAMPS[2])))
    broken = bytearray(tf_bytes("base_link", "other", raised(np.nan), STAMPS[0]))
    transforms.append((STAMPS[0], tf, bytes(broken)))
    reader = BagReader(tf_bag(tmp_path / "bag", {tf: "tf2_msgs/msg/TFMessage"}, transforms))
    frames = [assemble(s, reader.calibration.rig("velodyne", s.stamp), reader.config).frame for s in reader.synced()]
    assert [frame.T_grid_lidar[2, 3] for frame in frames] == pytest.approx([1.05, 1.15, 1.25, 1.35])
    for frame in frames:
        np.testing.assert_allclose(frame.cameras[0].T_camera_lidar, T_CAMERA_LIDAR, atol=1e-12)
    notes = reader.calibration.rig("velodyne", STAMPS[0]).notes
    assert len(notes) == 1 and f"a transform of {tf} was ignored: base_link -> other" in notes[0]


def test_a_bag_without_the_transforms_fails_with_the_frames_that_it_knows(bundle: Path, tmp_path: Path) -> None:
    kinds = {"/tf_static": "tf2_msgs/msg/TFMessage"}
    transforms = [(STAMPS[0], "/tf_static", tf_bytes("odom", "base", raised(0), STAMPS[0]))]
    summary = run_bag(tf_bag(tmp_path / "bag", kinds, transforms), bundle, tmp_path / "out")
    assert summary.frames == 0 and len(summary.failed) == len(STAMPS)
    words = "no transform from 'velodyne' to 'base_link'; the frames known from /tf_static and /tf are: odom -> base"
    assert words in summary.failed[0]


def test_scans_of_another_lidar_than_the_bags_calibration(bundle: Path, tmp_path: Path) -> None:
    def rename(number: int, message: Any) -> None:
        if message.header.frame_id == "velodyne":
            message.header.frame_id = "os_lidar_rear"

    bag = write_bag(tmp_path / "bag", STAMPS[:2], spoil=rename)
    words = f"run --bag {bag} --bundle {bundle} --out {tmp_path / 'out'} --pictures 0 --engine torch"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 1
    assert "scans are in frame 'os_lidar_rear'" in result.stderr and "is for 'velodyne'" in result.stderr
