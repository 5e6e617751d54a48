# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writes a drive of a described rig as a rosbag2 recording, as its drivers would: motion in the scans, topics of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.bags.new_bag import new_bag, offered_qos
from occle_core.bags.storage import TYPES
from occle_core.bags.writer import BagWriter
from occle_core.geometry.trajectory import Trajectory
from occle_core.rig import CameraRig, LidarRig, Rig
from occle_train.streets.drive import Drive
from occle_train.streets.moving_scan import lidar_trajectory, moving_scan
from occle_train.streets.sensors.camera import RenderedView, render
from occle_train.streets.sensors.described_rig import scaled_rig
from occle_train.streets.sensors.lidar import SimulatedScan
from occle_train.streets.shapes.boxes import quaternion

START = 1_700_000_000_000_000_000
"""Nanoseconds of the first scan's stamp."""
LATER = 0.03
"""Seconds that a second LiDAR's turn begins after the first one's."""
_ODOMETRY_HZ = 50
_OFFSETS, _KINDS = (0, 4, 8, 12, 16, 20), ("<f4", "<f4", "<f4", "<f4", "<u4", "<u2")
_NAMES = ["x", "y", "z", "intensity", "t", "ring"]
POINT = np.dtype({"names": _NAMES, "formats": list(_KINDS), "offsets": list(_OFFSETS), "itemsize": 24})
"""A row of the clouds."""
_FIELD_TYPES = {"<f4": 7, "<u4": 6, "<u2": 4}


def write_bag(
    out: Path, drive: Drive, rig: Rig, scale: float = 1.0, every: int = 1, on_frame: Callable[[], None] = lambda: None
) -> None:
    """Write all frames of a drive; the folder appears when it is complete.

    Clouds have x, y, z, intensity, t (uint32 nanoseconds after the stamp) and ring. TF has the sensors' mountings and the motion
    of the base in the odometry frame; CameraInfos and, where the rig names a topic, nav_msgs/Odometry too.

    Args:
        out: bag folder to create.
        drive: made with this rig and scale.
        rig: topics and frames.
        scale: of the images.
        every: write the images of each n-th frame only.
        on_frame: called after every frame.

    Raises:
        OutputError: `out` exists.
    """
    rig = scaled_rig(rig, scale)
    with new_bag(out) as writer:
        _Recorder(writer, drive, rig).record(every, on_frame)


class _Recorder:
    def __init__(self, writer: BagWriter, drive: Drive, rig: Rig) -> None:
        self._writer, self._drive, self._rig = writer, drive, rig
        self._connections: dict[str, Any] = {}

    def record(self, every: int, on_frame: Callable[[], None]) -> None:
        drive, rig = self._drive, self._rig
        T_base_street = drive.rig.T_base_grid  # of the rig's base frame in the simulator's
        mounted = [(frame_of(name, lidar), lidar.pose) for name, lidar in rig.lidars.items()]
        mounted += [(frame_of(name, camera), camera.pose) for name, camera in rig.cameras.items()]
        self._transforms("/tf_static", [(rig.base_frame, frame, np.array(pose), START) for frame, pose in mounted])
        for i in range(drive.frames):
            rng = np.random.default_rng([drive.seed, drive.number, 13, i])
            stamp = START + round(float(drive.times[i]) * 1e9)
            self._motion(i, stamp, T_base_street)
            snapshot, _ = drive.snapshot(i)
            for number, ((name, lidar), (sensor, T_base_lidar)) in enumerate(zip(rig.lidars.items(), drive.rig.lidars)):
                turn = 1 / lidar.rate_hz
                path = lidar_trajectory(drive, i, turn, margin=0.2)
                poses = path.poses @ np.linalg.inv(drive.rig.T_base_lidar) @ T_base_lidar
                start = round(float(drive.times[i] + number * LATER) * 1e9)
                scan, seconds = moving_scan(snapshot, sensor, Trajectory(path.stamps, poses), start, turn, rng)
                self._cloud(name, lidar, START + start, scan, seconds)
            if i % every == 0:
                for camera, (name, given) in zip(drive.rig.cameras, rig.cameras.items()):
                    view = render(snapshot, camera, drive.base_pose(i), drive.scene.light, drive.scene.noise, rng)
                    self._image(name, given, stamp, view)
            on_frame()

    def _motion(self, i: int, stamp: int, T_base_street: NDArray[np.float64]) -> None:
        """Odometry around frame i, by TF and its topic."""
        drive, rig = self._drive, self._rig
        path = lidar_trajectory(drive, i, drive.rig.period, margin=0.2)
        base = path.poses @ np.linalg.inv(drive.rig.T_base_lidar) @ T_base_street
        first = np.linalg.inv(drive.base_pose(0) @ T_base_street)
        steps = max(1, round(drive.rig.period * _ODOMETRY_HZ))
        begin = -steps if i == 0 else 0
        end = 2 * steps if i == drive.frames - 1 else steps
        trajectory = Trajectory(path.stamps, base)
        for step in range(begin, end):
            offset = round(step * drive.rig.period / steps * 1e9)
            if not -200_000_000 < offset < drive.rig.period * 1e9 + 200_000_000:
                continue
            T = first @ trajectory.at([round(float(drive.times[i]) * 1e9) + offset])[0]
            self._transforms("/tf", [(rig.odometry.frame, rig.base_frame, T, stamp + offset)])
            if rig.odometry.topic:
                self._odometry(T, stamp + offset)

    def _cloud(self, name: str, lidar: LidarRig, stamp: int, scan: SimulatedScan, seconds: NDArray[np.float32]) -> None:
        rows = np.zeros(len(scan.points), POINT)  # filled in order: indexing rows would leave their padding undefined
        nanoseconds = np.round(seconds.astype(np.float64) * 1e9)
        order = np.argsort(nanoseconds, kind="stable")
        for column, field in enumerate(("x", "y", "z")):
            rows[field] = scan.points[order, column]
        rows["intensity"] = scan.points[order, 3] / lidar.intensity_scale
        rows["t"], rows["ring"] = nanoseconds[order], scan.ring[order]
        fields = [
            make_message("sensor_msgs/msg/PointField", name=field, offset=offset, datatype=_FIELD_TYPES[kind], count=1)
            for field, offset, kind in zip(POINT.names or (), _OFFSETS, _KINDS)
        ]
        cloud = make_message(
            "sensor_msgs/msg/PointCloud2", header=make_header(stamp, frame_of(name, lidar)), height=1, width=len(rows),
            fields=fields, is_bigendian=False, point_step=POINT.itemsize, row_step=POINT.itemsize * len(rows),
            data=np.frombuffer(rows.tobytes(), np.uint8), is_dense=True,
        )  # fmt: skip
        self._write(lidar.topic, cloud, stamp + round(1e9 / lidar.rate_hz))

    def _image(self, name: str, camera: CameraRig, stamp: int, view: RenderedView) -> None:
        header = make_header(stamp, frame_of(name, camera))
        height, width = view.rgb.shape[:2]
        if camera.compressed:
            data = cv2.imencode(".jpg", view.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel()
            image = make_message("sensor_msgs/msg/CompressedImage", header=header, format="rgb8; jpeg compressed bgr8", data=data)
        else:
            data = view.rgb.ravel()
            image = make_message("sensor_msgs/msg/Image", header=header, height=height, width=width, encoding="rgb8",
                                 is_bigendian=0, step=3 * width, data=data)  # fmt: skip
        self._write(camera.topic, image, stamp + 20_000_000)
        lens = camera.lens
        if camera.info_topic and lens is not None:
            model = "plumb_bob" if lens.model == "pinhole" else lens.model
            roi = make_message("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
            info = make_message(
                "sensor_msgs/msg/CameraInfo", header=header, height=height, width=width, distortion_model=model,
                d=np.array(lens.distortion, np.float64), k=lens.K.ravel(), r=np.eye(3).ravel(),
                p=np.hstack([lens.K, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0, roi=roi,
            )  # fmt: skip
            self._write(camera.info_topic, info, stamp + 20_000_000)

    def _odometry(self, T: NDArray[np.float64], stamp: int) -> None:
        position, orientation = pose_fields(T)
        zero = make_message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
        twist = make_message("geometry_msgs/msg/Twist", linear=zero, angular=zero)
        pose = make_message(
            "geometry_msgs/msg/Pose", position=make_message("geometry_msgs/msg/Point", **position), orientation=orientation
        )
        message = make_message(
            "nav_msgs/msg/Odometry", header=make_header(stamp, self._rig.odometry.frame), child_frame_id=self._rig.base_frame,
            pose=make_message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
            twist=make_message("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
        )  # fmt: skip
        self._write(self._rig.odometry.topic, message, stamp)

    def _transforms(self, topic: str, links: list[tuple[str, str, NDArray[np.float64], int]]) -> None:
        found = []
        for parent, child, T, stamp in links:
            position, orientation = pose_fields(T)
            transform = make_message(
                "geometry_msgs/msg/Transform",
                translation=make_message("geometry_msgs/msg/Vector3", **position),
                rotation=orientation,
            )
            found.append(
                make_message(
                    "geometry_msgs/msg/TransformStamped",
                    header=make_header(stamp, parent),
                    child_frame_id=child,
                    transform=transform,
                )
            )
        self._write(topic, make_message("tf2_msgs/msg/TFMessage", transforms=found), links[0][3])

    def _write(self, topic: str, message: Any, time: int) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=TYPES, offered_qos_profiles=[offered_qos(topic == "/tf_static")]
            )
        self._writer.write(self._connections[topic], time, bytes(TYPES.serialize_cdr(message, kind)))


def frame_of(name: str, sensor: LidarRig | CameraRig) -> str:
    """Frame of a sensor's messages."""
    return sensor.frame or f"{name}_frame"


def make_message(kind: str, **fields: Any) -> Any:
    """A message of a standard type."""
    return TYPES.types[kind](**fields)


def make_header(stamp: int, frame: str) -> Any:
    """std_msgs Header of a stamp in nanoseconds."""
    time = make_message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return make_message("std_msgs/msg/Header", stamp=time, frame_id=frame)


def pose_fields(T: NDArray[np.float64]) -> tuple[dict[str, float], Any]:
    """Translation as fields, and the rotation's quaternion."""
    w, x, y, z = quaternion(T[:3, :3])
    rotation = make_message("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    return dict(zip("xyz", T[:3, 3].tolist())), rotation
