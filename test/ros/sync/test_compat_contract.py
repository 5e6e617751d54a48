# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What our own readers, collectors and transforms give is what the ROS packages that they stand in for give.

Each case runs through ours and through every other implementation that can be imported here: the ROS packages themselves
(cv_bridge, sensor_msgs_py, message_filters, tf2_ros) and the PyPI packages rosbags-image and pointcloud2.
"""

from __future__ import annotations

import importlib
import sys
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import PointCloud2, PointField

from occle_core.sensors.clouds import points_from_cloud
from occle_core.sensors.images import image_from_message
from occle_core.sensors.transforms import TransformBuffer, TransformError
from occle_ros.calibration import tf_listener
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import compressed_message, message_from_image
from occle_ros.messages.transforms import transform_from_matrix
from occle_ros.sync.approximate_time import ApproximateTimeFrameSynchronizer
from occle_ros.sync.lidar_led import FrameSynchronizer

MS = 1_000_000


def package(name: str):
    """The module, or a skip that says which package is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} cannot be imported here ({error})")


# Images.


def by_cv_bridge(message):
    bridge = package("cv_bridge").CvBridge()
    if hasattr(message, "format"):
        return bridge.compressed_imgmsg_to_cv2(message, "rgb8")
    return bridge.imgmsg_to_cv2(message, "rgb8")


def by_rosbags_image(message):
    module = package("rosbags.image")
    if hasattr(message, "format"):
        return module.compressed_image_to_cvimage(message, "rgb8")
    # It reads the data as an ndarray, as rosbags has it.
    fields = {name: getattr(message, name) for name in ("height", "width", "encoding", "is_bigendian", "step")}
    return module.image_to_cvimage(SimpleNamespace(**fields, data=np.frombuffer(message.data, np.uint8)), "rgb8")


IMAGE = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
GREY = IMAGE[..., :1]
ALPHA = np.dstack([IMAGE, GREY])
RAW = {"rgb8": IMAGE, "bgr8": IMAGE, "rgba8": ALPHA, "bgra8": ALPHA, "mono8": GREY}
RAW |= {f"bayer_{pattern}8": GREY for pattern in ("rggb", "bggr", "gbrg", "grbg")}
RAW |= {name: IMAGE[..., :2] for name in ("yuv422", "yuv422_yuy2")}


@pytest.mark.parametrize("other", [by_cv_bridge, by_rosbags_image])
@pytest.mark.parametrize("encoding", RAW)
@pytest.mark.parametrize("padding", [0, 5])
def test_images(other, encoding, padding):
    if padding and other is by_rosbags_image:
        pytest.skip("rosbags-image does not read padded rows")
    pixels = np.ascontiguousarray(RAW[encoding])
    message = message_from_image(IMAGE, 0, "c")
    message.encoding, message.step = encoding, 8 * pixels.shape[2] + padding
    message.data = array("B", np.pad(pixels.reshape(6, -1), ((0, 0), (0, padding))).tobytes())
    np.testing.assert_array_equal(image_from_message(message), other(message))


@pytest.mark.parametrize("other", [by_cv_bridge, by_rosbags_image])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_images(other, suffix, smooth_image):
    data = cv2.imencode(suffix, smooth_image(60, 80))[1].tobytes()
    message = compressed_message(data, "rgb8; jpeg compressed bgr8", 0, "c")
    np.testing.assert_array_equal(image_from_message(message), other(message))


# Clouds.


def by_sensor_msgs_py(cloud: PointCloud2) -> np.ndarray:
    found = package("sensor_msgs_py.point_cloud2").read_points(cloud, ["x", "y", "z", "intensity"], skip_nans=True)
    return np.stack([found[name].astype(np.float32) for name in ("x", "y", "z", "intensity")], -1).reshape(-1, 4)


def by_pointcloud2(cloud: PointCloud2) -> np.ndarray:
    found = package("pointcloud2").read_points(cloud, field_names=["x", "y", "z", "intensity"], skip_nans=True)
    return np.stack([found[name].astype(np.float32) for name in ("x", "y", "z", "intensity")], -1).reshape(-1, 4)


CLOUDS = {
    "packed": ("f4", "f4", 0, 1, "<"),
    "padded as PCL": ("f4", "f4", 16, 1, "<"),
    "organised": ("f4", "f4", 0, 3, "<"),
    "float64": ("f8", "f4", 0, 1, "<"),
    "uint8 intensity": ("f4", "u1", 3, 1, "<"),
    "uint16 intensity": ("f4", "u2", 2, 1, "<"),
    "big-endian": ("f4", "f4", 0, 1, ">"),
}


@pytest.mark.parametrize("other", [by_sensor_msgs_py, by_pointcloud2])
@pytest.mark.parametrize("case", CLOUDS)
@pytest.mark.parametrize("with_nan", [False, True])
def test_clouds(other, case, with_nan):
    coordinate, intensity, padding, height, order = CLOUDS[case]
    layout = [(name, order + coordinate) for name in "xyz"] + [("intensity", order + intensity), ("pad", f"V{padding}")]
    rows = np.zeros(12, np.dtype([(name, kind) for name, kind in layout if kind != "V0"]))
    values = np.random.default_rng(1).normal(0, 20, (12, 4))
    for name, column in zip(("x", "y", "z", "intensity"), values.T):
        rows[name] = np.abs(column)
    if with_nan:
        rows["y"][::5] = np.nan
    codes = {"f4": 7, "f8": 8, "u1": 2, "u2": 4}
    fields = [
        PointField(name=name, offset=rows.dtype.fields[name][1], datatype=codes[kind[1:]], count=1) for name, kind in layout[:4]
    ]
    size = rows.dtype.itemsize
    cloud = PointCloud2(
        height=height, width=12 // height, fields=fields, is_bigendian=order == ">", point_step=size,
        row_step=size * 12 // height, data=array("B", rows.tobytes()), is_dense=False,
    )  # fmt: skip
    points, dropped = points_from_cloud(cloud)
    assert dropped == ({"not_finite": 3} if with_nan else {})
    np.testing.assert_array_equal(points, other(cloud))


@pytest.mark.parametrize("other", [by_sensor_msgs_py, by_pointcloud2])
def test_the_clouds_that_we_write(other):
    points = np.random.default_rng(2).normal(0, 20, (50, 4)).astype(np.float32)
    np.testing.assert_array_equal(other(cloud_from_points(points, 0, "l")), points)


# Matching of messages.


def ours(cameras: list[str], tolerance: int) -> FrameSynchronizer[str]:
    return FrameSynchronizer(cameras, tolerance, deadline=1 << 60, max_open=100, max_images=100)


def approximate(cameras: list[str], tolerance: int) -> ApproximateTimeFrameSynchronizer[str]:
    package("message_filters")
    return ApproximateTimeFrameSynchronizer(cameras, tolerance)


def run(synchronizer, events: str) -> list[tuple[str, ...]]:
    """ "L100" a scan stamped 100 ms, "A98" an image of the first camera, in the order of their arrival."""
    frames = []
    for number, event in enumerate(events.split()):
        stamp = int(event[1:]) * MS
        if event[0] == "L":
            frames += synchronizer.add_scan(stamp, event, number)
        else:
            frames += synchronizer.add_image("AB".index(event[0]), stamp, event, number)
    return [(frame.scan, *frame.images) for frame in frames]


COMPLETE = {
    "equal stamps": ("A100 B100 L100", [("L100", "A100", "B100")]),
    "images after the scan": ("L100 A103 B104", [("L100", "A103", "B104")]),
    "within the tolerance": ("A99 B110 L100 A115", [("L100", "A99", "B110")]),
    "a sequence": (
        "A100 L101 B102 L200 A201 B202 B300 L300 A300",
        [("L101", "A100", "B102"), ("L200", "A201", "B202"), ("L300", "A300", "B300")],
    ),
    "a bag that starts again": (
        "A5000 B5000 L5000 A1000 B1000 L1000 A1100 B1100 L1100",
        [("L5000", "A5000", "B5000"), ("L1000", "A1000", "B1000"), ("L1100", "A1100", "B1100")],
    ),
    "one scan twice": ("A100 B100 L100 L100 A200 B200 L200", [("L100", "A100", "B100"), ("L200", "A200", "B200")]),
}


@pytest.mark.parametrize("make", [ours, approximate])
@pytest.mark.parametrize("case", COMPLETE)
def test_frames_of_which_every_camera_has_an_image(make, case):
    events, expected = COMPLETE[case]
    assert run(make(["a", "b"], 20 * MS), events) == expected


def test_the_approximate_policy_counts_what_it_lets_go_and_survives_a_short_loop():
    synchronizer = approximate(["a"], 20 * MS)
    assert run(synchronizer, "L100 L200 L300 A300") == [("L300", "A300")]
    assert synchronizer.counts["scan_unmatched"] == 2
    # Back by less than half a second, again and again: it begins anew at the third.
    out = run(synchronizer, " ".join(f"A{t} L{t}" for t in range(50, 350, 50)))
    assert out[-1] == ("L300", "A300") and synchronizer.counts["clock_reset"] >= 1
    for number in range(50):
        assert run(synchronizer, f"L{1000 + number}") == []
    assert synchronizer.counts["scan_unmatched"] >= 40
    assert synchronizer.next_deadline() is None and synchronizer.flush() == []


def test_the_approximate_policy_stops_with_a_silent_camera_and_ours_does_not():
    assert run(approximate(["a", "b"], 20 * MS), "A100 L100 A200 L200") == []
    mask = FrameSynchronizer(["a", "b"], 20 * MS, deadline=2)
    assert run(mask, "A100 L100 A200 L200 A300 L300")[:2] == [("L100", "A100", None), ("L200", "A200", None)]


def test_time_offsets_count_in_both():
    for make in (FrameSynchronizer, ApproximateTimeFrameSynchronizer):
        if make is ApproximateTimeFrameSynchronizer:
            package("message_filters")
        options = {"deadline": 1 << 60} if make is FrameSynchronizer else {}
        synchronizer = make(["a"], 5 * MS, offsets=[40 * MS], **options)
        synchronizer.add_image(0, 60 * MS, "A", 0)
        (frame,) = synchronizer.add_scan(100 * MS, "L", 0)
        assert frame.images == ("A",)


def test_without_message_filters_the_policy_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "message_filters", None)
    with pytest.raises(ConfigError, match=r"sync.policy: approximate_time needs .* apt install ros-\$ROS_DISTRO-message-filters"):
        ApproximateTimeFrameSynchronizer(["a"], 1)


# TransformBuffer.


def by_own(links):
    transforms = TransformBuffer()
    transforms.add(SimpleNamespace(transforms=links))
    return transforms


def by_tf2(links):
    tf2_ros = package("tf2_ros")
    buffer = tf2_ros.Buffer()
    for link in links:
        buffer.set_transform_static(link, "test")
    wrapped = object.__new__(tf_listener.Tf2Transforms)
    wrapped._buffer, wrapped._failure = buffer, tf2_ros.TransformException
    return wrapped


@pytest.mark.parametrize("make", [by_own, by_tf2])
def test_transforms(make):
    T_base_lidar, T_base_camera = np.eye(4), np.eye(4)
    T_base_lidar[:3, 3] = [1, 0, 2]
    T_base_camera[:3] = [[0, 0, 1, 1.5], [-1, 0, 0, 0.2], [0, -1, 0, 1.4]]
    links = []
    for child, T in (("lidar", T_base_lidar), ("camera", T_base_camera)):
        link = TransformStamped(child_frame_id=child, transform=transform_from_matrix(T))
        link.header.frame_id = "base"
        links.append(link)
    transforms = make(links)
    np.testing.assert_allclose(transforms.lookup("camera", "lidar"), np.linalg.inv(T_base_camera) @ T_base_lidar, atol=1e-9)
    np.testing.assert_allclose(transforms.lookup("base", "/camera"), T_base_camera, atol=1e-9)
    with pytest.raises(TransformError, match="nowhere"):
        transforms.lookup("base", "nowhere")
