from __future__ import annotations

import struct
from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from occle_core import taxonomy
from occle_core.camera import Camera
from occle_core.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_ros import conversions
from occle_ros.conversions import ConversionError

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}  # PointField datatype -> struct code


def slow_points(message: PointCloud2) -> tuple[np.ndarray, int]:
    """Point by point with struct, as the message's definition reads."""
    order = ">" if message.is_bigendian else "<"
    fields = {f.name: f for f in message.fields}
    rows, dropped = [], 0
    for v in range(message.height):
        for u in range(message.width):
            at = v * message.row_step + u * message.point_step
            values = []
            for name in ("x", "y", "z", "intensity"):
                if name not in fields:
                    values.append(0.0)
                    continue
                f = fields[name]
                values.append(struct.unpack_from(order + CODES[f.datatype], bytes(message.data), at + f.offset)[0])
            with np.errstate(over="ignore"):
                row = np.array(values, np.float64).astype(np.float32)
            if np.isfinite(row).all():
                rows.append(row)
            else:
                dropped += 1
    return np.array(rows, np.float32).reshape(-1, 4), dropped


@st.composite
def clouds(draw) -> PointCloud2:
    height, width = draw(st.integers(0, 3)), draw(st.integers(0, 5))
    coordinate = draw(st.sampled_from([7, 8]))
    layout = [("x", coordinate), ("y", coordinate), ("z", coordinate)]
    if draw(st.booleans()):
        layout.append(("intensity", draw(st.sampled_from(sorted(CODES)))))
    layout += [("ring", 4)] * draw(st.integers(0, 1))
    offset, fields = 0, []
    for name, datatype in draw(st.permutations(layout)):
        offset += draw(st.integers(0, 3))
        fields.append(PointField(name=name, offset=offset, datatype=datatype, count=1))
        offset += struct.calcsize(CODES[datatype])
    message = PointCloud2(height=height, width=width, fields=fields, is_bigendian=draw(st.booleans()))
    message.point_step = offset + draw(st.integers(0, 4))
    message.row_step = message.point_step * width + draw(st.integers(0, 7))
    size = height * message.row_step
    raw = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if height * width and draw(st.booleans()):  # random bytes are mostly tiny or huge numbers; put some ordinary ones in
        f = next(f for f in fields if f.name == "x")
        code = (">" if message.is_bigendian else "<") + CODES[f.datatype]
        struct.pack_into(code, raw, f.offset, draw(st.floats(-80, 80, width=32)))
    message.data = array("B", bytes(raw))
    return message


@settings(max_examples=150, deadline=None)
@given(clouds())
def test_points_of_any_layout_are_those_of_a_slow_reader(message):
    with np.errstate(invalid="ignore"):
        points, dropped = conversions.points_from_cloud(message)
    expected, expected_dropped = slow_points(message)
    assert points.dtype == np.float32 and dropped == expected_dropped
    np.testing.assert_array_equal(points, expected)


def test_points_survive_the_wire():
    points = np.random.default_rng(0).normal(0, 20, (1000, 4)).astype(np.float32)
    message = conversions.cloud_from_points(points, 1_700_000_000_123_456_789, "velodyne")
    received = deserialize_message(serialize_message(message), PointCloud2)
    assert received == message and received.header.frame_id == "velodyne"
    assert conversions.stamp_of(received) == 1_700_000_000_123_456_789
    back, dropped = conversions.points_from_cloud(received)
    np.testing.assert_array_equal(back, points)
    assert dropped == 0


def test_points_with_nan_are_dropped_and_counted_and_intensity_is_scaled():
    points = np.array([[1, 2, 3, 255], [np.nan, 0, 0, 1], [0, np.inf, 0, 1], [4, 5, 6, 51]], np.float32)
    got, dropped = conversions.points_from_cloud(conversions.cloud_from_points(points, 0, "l"), intensity_scale=1 / 255)
    np.testing.assert_allclose(got, [[1, 2, 3, 1], [4, 5, 6, 0.2]], rtol=1e-6)
    assert dropped == 2


def test_an_empty_cloud_gives_no_points():
    points, dropped = conversions.points_from_cloud(conversions.cloud_from_points(np.zeros((0, 4), np.float32), 0, "l"))
    assert points.shape == (0, 4) and dropped == 0


def test_a_cloud_without_z_or_with_truncated_data_is_refused_with_its_fields():
    message = conversions.cloud_from_points(np.zeros((5, 4), np.float32), 0, "l")
    message.data = message.data[:-1]
    with pytest.raises(ConversionError, match=r"truncated.*x float32@0.*need 80 bytes, it has 79"):
        conversions.points_from_cloud(message)
    message.fields = [f for f in message.fields if f.name != "z"]
    with pytest.raises(ConversionError, match=r"no field z; its fields are x float32@0, y float32@4, intensity float32@12"):
        conversions.points_from_cloud(message)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datatype": PointField.INT32}, "must be one f4 or f8"),
        ({"offset": 13}, "does not fit a point of 16 bytes"),
        ({"count": 3}, "must be one"),
    ],
)
def test_impossible_fields_are_refused(change, words):
    message = conversions.cloud_from_points(np.zeros((5, 4), np.float32), 0, "l")
    for name, value in change.items():
        setattr(message.fields[0], name, value)
    with pytest.raises(ConversionError, match=words):
        conversions.points_from_cloud(message)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 6), st.integers(0, 5), st.sampled_from(["rgb8", "bgr8", "mono8"]), st.integers(0, 2**32 - 1)
)
def test_images_of_any_step_are_those_of_a_slow_reader(height, width, padding, encoding, seed):
    channels = 1 if encoding == "mono8" else 3
    step = width * channels + padding
    raw = np.random.default_rng(seed).integers(0, 256, height * step, np.uint8).tobytes()
    image = conversions.image_from_message(Image(height=height, width=width, encoding=encoding, step=step, data=array("B", raw)))
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    for v in range(height):
        for u in range(width):
            pixel = list(raw[v * step + u * channels : v * step + (u + 1) * channels])
            assert image[v, u].tolist() == {"rgb8": pixel, "bgr8": pixel[::-1], "mono8": pixel * 3}[encoding]


def test_raw_image_survives_the_wire(smooth):
    message = conversions.message_from_image(smooth, 5, "cam2_optical")
    received = deserialize_message(serialize_message(message), Image)
    assert (received.encoding, received.step, conversions.stamp_of(received)) == ("rgb8", 3 * smooth.shape[1], 5)
    np.testing.assert_array_equal(conversions.image_from_message(received), smooth)


def test_encodings_that_cannot_be_read_and_short_data_are_named(smooth):
    message = conversions.message_from_image(smooth, 0, "c")
    message.encoding = "bayer_rggb8"
    with pytest.raises(ConversionError, match=r"'bayer_rggb8' cannot be read; publish one of rgb8, bgr8, mono8"):
        conversions.image_from_message(message)
    message = conversions.message_from_image(smooth, 0, "c")
    message.data = message.data[:-1]
    with pytest.raises(ConversionError, match="does not fit its header"):
        conversions.image_from_message(message)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 12)])
def test_compressed_images_become_rgb(smooth, suffix, tolerance):
    data = cv2.imencode(suffix, cv2.cvtColor(smooth, cv2.COLOR_RGB2BGR))[1].tobytes()
    message = conversions.compressed_message(data, "jpeg", 7, "c")
    received = deserialize_message(serialize_message(message), CompressedImage)
    assert bytes(received.data) == data
    difference = np.abs(conversions.image_from_message(received).astype(int) - smooth.astype(int))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_compressed_image_is_refused(smooth, suffix, kept):
    data = cv2.imencode(suffix, smooth)[1].tobytes()
    with pytest.raises(ConversionError, match=r"cut off or damaged|cannot be read"):
        conversions.decode_image(data[: int(len(data) * kept)], "jpeg")


def test_other_formats_are_refused_by_name():
    with pytest.raises(ConversionError, match="'h264' cannot be read"):
        conversions.decode_image(b"\0\0\0\1abc", "h264")


def camera() -> Camera:
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    T[:3, 3] = [0.1, -0.2, 0.3]
    return Camera(np.array([[700.0, 0, 600], [0, 710, 180], [0, 0, 1]]), T, 1242, 375)


def test_camera_info_carries_the_camera():
    info = deserialize_message(serialize_message(conversions.info_from_camera(camera(), 9, "cam2_optical")), CameraInfo)
    back = conversions.camera_from_info(info, camera().T_camera_lidar)
    np.testing.assert_array_equal(back.K, camera().K)
    np.testing.assert_array_equal(back.T_camera_lidar, camera().T_camera_lidar)
    assert (back.width, back.height) == (1242, 375)


def test_the_whole_projection_counts():
    info = conversions.info_from_camera(camera(), 0, "right")
    info.p[3] = -700.0 * 0.54  # a stereo pair's right camera: Tx = -f B
    uv, _, _ = conversions.camera_from_info(info, camera().T_camera_lidar).project(np.array([[10.0, 1, 0]]))
    point = camera().T_camera_lidar @ [10, 1, 0, 1]
    expected = np.asarray(info.p).reshape(3, 4) @ point
    np.testing.assert_allclose(uv[0], expected[:2] / expected[2])


def test_camera_info_with_only_k_is_read():
    info = conversions.info_from_camera(camera(), 0, "c")
    info.p, info.r = np.zeros(12), np.zeros(9)
    np.testing.assert_array_equal(conversions.camera_from_info(info, np.eye(4)).K, camera().K)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d": [0.1, 0, 0, 0, 0]}, "has distortion.*must be rectified"),
        ({"r": [0.0, 1, 0, -1, 0, 0, 0, 0, 1]}, "rotation R"),
        ({"binning_x": 2}, "binned or cropped"),
        ({"p": np.zeros(12), "k": np.zeros(9)}, "not calibrated"),
        ({"width": 0}, "image size must be positive"),
    ],
)
def test_camera_infos_that_would_mislead_are_refused(change, words):
    info = conversions.info_from_camera(camera(), 0, "cam2_optical")
    for name, value in change.items():
        setattr(info, name, value)
    with pytest.raises(ConversionError, match=words) as caught:
        conversions.camera_from_info(info, np.eye(4))
    assert "cam2_optical" in str(caught.value)


def occupancy(seed: int = 0) -> Occupancy:
    rng = np.random.default_rng(seed)
    names = taxonomy.load("semantickitti")
    grid = VoxelGrid((0.0, -3.2, -2.0), (12, 16, 8), 0.4)
    labels = np.where(rng.random(grid.shape) < 0.2, rng.integers(1, 20, grid.shape), 0).astype(np.uint8)
    confidence = np.where(labels > 0, rng.random(grid.shape), 0).astype(np.float16)
    return Occupancy(labels, confidence, grid, names, 12_345_678_901, "velodyne")


def test_occupancy_survives_the_wire():
    given = occupancy()
    received = deserialize_message(serialize_message(conversions.cloud_from_occupancy(given)), PointCloud2)
    back = conversions.occupancy_from_cloud(received, given.grid, given.taxonomy)
    np.testing.assert_array_equal(back.labels, given.labels)
    np.testing.assert_array_equal(back.confidence, given.confidence)
    assert (back.stamp, back.frame_id) == (given.stamp, given.frame_id)


def test_voxel_cloud_is_laid_out_as_documented():
    given = occupancy()
    message = conversions.cloud_from_occupancy(given)
    expected = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("label", 12, 2), ("confidence", 16, 7), ("rgb", 20, 7)]
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == expected
    first = np.argwhere(given.labels > 0)[0]
    x, y, z, label, confidence, blue, green, red = struct.unpack_from("<fffBxxxfBBB", bytes(message.data))
    np.testing.assert_allclose([x, y, z], (first + 0.5) * 0.4 + given.grid.origin, rtol=1e-6)
    assert label == given.labels[tuple(first)] and confidence == given.confidence[tuple(first)]
    assert [red, green, blue] == given.taxonomy.colors[label].tolist()


def test_voxels_of_another_grid_or_taxonomy_are_refused():
    message = conversions.cloud_from_occupancy(occupancy())
    with pytest.raises(ConversionError, match="outside the"):
        conversions.occupancy_from_cloud(message, VoxelGrid((0, 0, 0), (4, 4, 4), 0.4), occupancy().taxonomy)
    with pytest.raises(ConversionError, match="not one of occ3d_nuscenes"):
        conversions.occupancy_from_cloud(message, occupancy().grid, taxonomy.load("occ3d_nuscenes"))
    with pytest.raises(ConversionError, match="not a cloud of labelled voxels"):
        conversions.occupancy_from_cloud(
            conversions.cloud_from_points(np.zeros((1, 4)), 0, "l"), occupancy().grid, occupancy().taxonomy
        )


@given(st.integers(0, 2**31 * 1_000_000_000 - 1))
def test_stamps_are_exact(stamp):
    time = conversions.time_from(stamp)
    assert conversions.nanoseconds(time) == stamp == time.sec * 10**9 + time.nanosec


def test_a_stamp_that_is_no_ros_time_is_refused():
    with pytest.raises(ConversionError, match="nanoseconds"):
        conversions.time_from(2**31 * 1_000_000_000)


@pytest.fixture
def smooth(smooth_image) -> np.ndarray:
    return smooth_image(60, 80)
