# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A car whose sensors can be spoilt: two cameras (one raw, one JPEG) and a LiDAR, and what an operator sees of the node."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_rig import CAMERA, lively_bundle, node_arguments, sensors
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from ros_process import spin_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from visualization_msgs.msg import Marker, MarkerArray

from occle_core.sensors.messages import stamp_of
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import compressed_message, message_from_image
from occle_ros.system.ros_process import ros_node

MS = 1_000_000
POINTS, PICTURE = sensors(0)
SETTINGS = {
    "camera_names": ["cam2", "cam3"],
    "cameras.cam3.compressed": True,
    "sync.deadline_ms": 300.0,
    "diagnostics.input_timeout_s": 1.0,
    "lidar.exclude_box": [-1.0, -1.0, -2.0, 1.0, 1.0, 1.0],
}
"""Parameters of a node for this car."""
_GROUPS = ("dropped", "masked", "synchronizer", "points", "deskew", "overflow")


@dataclass(frozen=True)
class Fault:
    """What is done to a running node, and what must come out.

    Args:
        script: what the sensors send, see `Car.play`.
        out: stamps of the voxels that come out, milliseconds, in this order.
        lost: what diagnostics count, exactly.
        said: regular expressions that the node's log matches.
        status: (level, part, words) that diagnostics show.
        cleared: the viewers' markers are removed on the way.
    """

    script: str
    out: tuple[int, ...]
    lost: Mapping[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    status: tuple[bytes, str, str] | None = None
    cleared: bool = False


def write_place(folder: Path) -> Path:
    """A folder with the bundle and the calibration of the car."""
    lively_bundle(folder / "bundle", cameras=2)
    write_rig(folder / "calibration.yaml")
    return folder


def arguments_of(place: Path) -> list[str]:
    """Arguments of a Python that runs the car's node; `place` is of `write_place`."""
    return node_arguments(place / "bundle", place / "calibration.yaml", **SETTINGS)


def write_rig(file: Path) -> Path:
    """calibration.yaml of the car."""
    camera = {"T_camera_lidar": CAMERA.T_camera_lidar.tolist(), "K": CAMERA.K.tolist(), "width": 160, "height": 60}
    cameras = {"cam2": camera, "cam3": camera}
    content = {"lidar_frame": "velodyne", "grid_frame": "velodyne", "T_grid_lidar": np.eye(4).tolist(), "cameras": cameras}
    file.write_text(yaml.safe_dump(content))
    return file


def jpeg() -> bytes:
    return cv2.imencode(".jpg", PICTURE[..., ::-1])[1].tobytes()


def scan(stamp: int, how: str = "") -> PointCloud2:
    """A scan, or one that is "empty", "nan", "zero" or "body" (a third of it), "all nan", "all zero", "huge", "cut", "foreign"."""
    points = POINTS.copy()
    spoilt = points[:] if how.startswith("all ") else points[::3]
    if how.endswith("nan"):
        spoilt[:] = np.nan
    if how.endswith("zero"):
        spoilt[:] = 0
    if how == "body":
        spoilt[:, :3] = 0.5, -0.4, -1.2
    frame = "rear_lidar" if how == "foreign" else "velodyne"
    message = cloud_from_points(points[: 0 if how == "empty" else None], stamp, frame)
    if how == "huge":
        message.width = 3_000_000
    if how == "cut":
        message.data = message.data[: len(message.data) // 2]
    return message


def raw_image(stamp: int, how: str = "") -> Image:
    """An Image, or one of 16 bits ("deep") or half the height ("small")."""
    message = message_from_image(PICTURE[: 30 if how == "small" else None], stamp, "cam2_optical")
    if how == "deep":
        message.encoding = "16UC1"
    return message


def jpeg_image(stamp: int, how: str = "") -> CompressedImage:
    """A JPEG, or its first half ("cut")."""
    data = jpeg()
    return compressed_message(data[: len(data) // 2 if how == "cut" else None], "jpeg", stamp, "cam3_optical")


class Car:
    """Sends what a script says, and keeps what the node called `name` publishes."""

    def __init__(self, node: Any, name: str = "/occupancy") -> None:
        self.node, self.name = node, name
        self.stamps: list[int] = []
        self.widths: dict[int, int] = {}
        self.arrived: dict[int, int] = {}
        self.markers: list[bytes] = []
        self.status: list[DiagnosticStatus] = []
        self.base = 0
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._senders: dict[str, tuple[Any, Callable[..., Any]]] = {
            "A": (node.create_publisher(Image, "/cam2/image", 10), raw_image),
            "B": (node.create_publisher(CompressedImage, "/cam3/image/compressed", 10), jpeg_image),
            "S": (node.create_publisher(PointCloud2, "/lidar/points", 10), scan),
        }
        self.infos = [node.create_publisher(CameraInfo, f"/{name}/camera_info", 10) for name in ("cam2", "cam3")]
        node.create_subscription(PointCloud2, f"{name}/voxels", self._take, 10)
        node.create_subscription(MarkerArray, f"{name}/markers", self.markers.append, 10, raw=True)
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.status.extend(m.status), 10)

    def _take(self, message: PointCloud2) -> None:
        self.stamps.append(stamp_of(message))
        self.widths[self.stamps[-1]], self.arrived[self.stamps[-1]] = message.width, time.time_ns()

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def spin_until(self, done: Callable[[], Any], seconds: float = 15.0) -> bool:
        """False if it did not come true in time."""
        return spin_until(self._executor, done, seconds)

    def connect(self, nodes: int = 1) -> None:
        publishers = [publisher for publisher, _ in self._senders.values()]
        assert self.spin_until(lambda: all(p.get_subscription_count() >= nodes for p in [*publishers, *self.infos]))
        assert self.spin_until(lambda: self.node.count_publishers(f"{self.name}/voxels"))
        for info in self.infos:
            info.publish(info_from_camera(CAMERA, 1, "optical"))
        self.spin(0.3)

    def send(self, kind: str, milliseconds: int, how: str = "") -> int:
        """One message of "A", "B" or "S"; returns its stamp."""
        publisher, make = self._senders[kind]
        stamp = self.base + milliseconds * MS
        publisher.publish(make(stamp, how))
        return stamp

    def play(self, script: str, out: tuple[int, ...] = ()) -> None:
        """Run a script of words.

        A0 and B0 are images of the two cameras stamped 0 ms, S0 is a scan, F0 all three; S0:empty is a spoilt one, +300 waits so
        many milliseconds. After a scan whose stamp is in `out` its voxels are waited for (3 s): no frame waits for another.
        """
        self.base = max(time.time_ns(), self.base + 1000 * MS, max(self.stamps, default=0) + 100 * MS)
        for word in script.split():
            if word[0] == "+":
                self.spin(int(word[1:]) / 1e3)
                continue
            stamp, _, how = word[1:].partition(":")
            for kind in "ABS" if word[0] == "F" else word[0]:
                sent = self.send(kind, int(stamp), how.replace("_", " "))
                if kind == "S" and int(stamp) in out:
                    self.spin_until(lambda sent=sent: sent in self.stamps, 3.0)

    def values(self) -> dict[str, str]:
        """What the node's newest diagnostics say of the pipeline."""
        title = f"{self.name.lstrip('/')}: pipeline"
        newest = next((status for status in reversed(self.status) if status.name == title), None)
        return {value.key: value.value for value in newest.values} if newest else {}

    def counts(self) -> Counter[str]:
        """The counters of frames and images among them: "group.reason" -> number."""
        return Counter({key: int(value) for key, value in self.values().items() if key.partition(".")[0] in _GROUPS})

    def lost(self, before: Mapping[str, int]) -> dict[str, int]:
        """What was counted since `before`, without images that no scan needed or that a reset forgot (topics have no order)."""
        now = self.counts() - Counter(before)
        return {key: number for key, number in now.items() if not re.search("(image|lidar)_(unused|clock_reset)", key)}

    def cleared(self) -> bool:
        """Some markers said that everything is to be deleted."""
        return any(deserialize_message(raw, MarkerArray).markers[0].action == Marker.DELETEALL for raw in self.markers)


AnyCar = TypeVar("AnyCar", bound=Car)


@contextmanager
def connected(kind: type[AnyCar]) -> Iterator[AnyCar]:
    """A car in a node of its own that the occupancy node hears."""
    with ros_node("car") as ours:
        car = kind(ours)
        car.connect()
        yield car
