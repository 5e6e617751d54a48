"""ROS messages <-> the arrays and classes of occle_core.

Messages may come from rclpy or from another library that offers the same attributes; messages that are made here are
rclpy's. Their `data` is filled through array.array: assigning an ndarray copies element by element (200 ms a cloud).
"""

from __future__ import annotations

from array import array
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from occle_core.camera import Camera
from occle_core.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import Taxonomy

NANOSECONDS = 1_000_000_000

VOXEL_DTYPE = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("label", "u1"), ("pad", "V3"), ("confidence", "<f4"), ("rgb", "<u4")]
)
"""One voxel of the published cloud; rgb is 0x00RRGGBB and declared as FLOAT32, as RViz expects it."""

_POINT_TYPES = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}
_INTENSITY_NAMES = ("intensity", "intensities", "reflectivity", "i")
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


class ConversionError(ValueError):
    """A message that cannot be used; the text says what is wrong with it and what would be right."""


def points_from_cloud(message: PointCloud2, intensity_scale: float = 1.0) -> tuple[NDArray[np.float32], int]:
    """PointCloud2 of any field layout -> points.

    Args:
        message: needs x, y, z (float32 or float64); intensity, intensities, reflectivity or i of any numeric type is the
            fourth column, 0 where the cloud has none. Big-endian clouds and padded rows are read as they are declared.
        intensity_scale: factor that brings the sensor's intensity to 0..1, for example 1/255.

    Returns:
        points (N, 4) float32 x, y, z, intensity in the message's frame, and the number of rows that were dropped because a
        value is NaN or infinite. The points may share the message's memory.

    Raises:
        ConversionError: a field is missing or has another type, or `data` is shorter than the declared size.
    """
    fields = {field.name: field for field in reversed(message.fields)}
    missing = [name for name in "xyz" if name not in fields]
    if missing:
        raise ConversionError(f"the point cloud has no field {', '.join(missing)}; its fields are {_field_list(message)}")
    columns = [_column(message, fields[name], ("f4", "f8")) for name in "xyz"]
    intensity = next((fields[name] for name in _INTENSITY_NAMES if name in fields), None)
    if intensity is not None:
        columns.append(_column(message, intensity, tuple(_POINT_TYPES.values())))
    count = message.height * message.width
    if count and message.row_step < message.width * message.point_step:
        raise ConversionError(f"{message.width} points of {message.point_step} bytes do not fit row_step {message.row_step}")
    needed = (message.height - 1) * message.row_step + message.width * message.point_step if count else 0
    raw = np.frombuffer(message.data, np.uint8)
    if len(raw) < needed:
        raise ConversionError(
            f"the point cloud's data is truncated: {message.height} x {message.width} points of {message.point_step} bytes "
            f"({_field_list(message)}) need {needed} bytes, it has {len(raw)}"
        )
    points = _packed_xyzi(message, columns, raw, count) if intensity is not None else None
    if points is None:
        points = np.zeros((count, 4), np.float32)
        for number, (offset, dtype) in enumerate(columns):
            if count:
                strides = (message.row_step, message.point_step)
                values = np.ndarray((message.height, message.width), dtype, raw.data, offset, strides)
                with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes inf and is dropped below
                    points[:, number] = values.reshape(-1)
    if intensity_scale != 1.0:
        points = points * np.array([1, 1, 1, intensity_scale], np.float32)
    if np.isfinite(points).all():
        return points, 0
    finite = np.isfinite(points).all(axis=1)
    return points[finite], count - int(finite.sum())


def cloud_from_points(points: NDArray[np.floating], stamp: int, frame_id: str) -> PointCloud2:
    """Points (N, 4) x, y, z, intensity -> an unordered PointCloud2 of four packed float32 fields."""
    packed = np.ascontiguousarray(points, "<f4")
    if packed.ndim != 2 or packed.shape[1] != 4:
        raise ConversionError(f"points must be (N, 4): x, y, z, intensity; got {packed.shape}")
    fields = [_field(name, 4 * i, PointField.FLOAT32) for i, name in enumerate(("x", "y", "z", "intensity"))]
    return _cloud(header(stamp, frame_id), fields, 16, len(packed), packed)


def image_from_message(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """Image (rgb8, bgr8, mono8; rows may be padded) or CompressedImage (JPEG, PNG) -> (H, W, 3) uint8 RGB.

    An unpadded rgb8 image shares the message's memory.

    Raises:
        ConversionError: another encoding or format, or truncated data.
    """
    if hasattr(message, "format"):
        return decode_image(message.data, message.format)
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise ConversionError(f"images encoded as {message.encoding!r} cannot be read; publish one of {', '.join(_CHANNELS)}")
    row = message.width * channels
    needed = (message.height - 1) * message.step + row if message.height else 0
    raw = np.frombuffer(message.data, np.uint8)
    if not row or not message.height or message.step < row or len(raw) < needed:
        raise ConversionError(
            f"the {message.encoding} image's data does not fit its header: {message.width} x {message.height} pixels with "
            f"step {message.step} need {needed} bytes, it has {len(raw)}"
        )
    image = np.ndarray((message.height, message.width, channels), np.uint8, raw.data, 0, (message.step, channels, 1))
    if message.encoding == "bgr8":
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if message.encoding == "mono8":
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(image)


def decode_image(data: Any, declared: str) -> NDArray[np.uint8]:
    """JPEG or PNG bytes -> (H, W, 3) uint8 RGB, stored orientation. `declared` is the format's name in error messages.

    Raises:
        ConversionError: another format, or the file is cut off or damaged.
    """
    raw = bytes(data)
    if raw.startswith(b"\xff\xd8"):
        # A JPEG that is cut off decodes to a half grey picture, so its end-of-image marker is asked for.
        complete = raw.rfind(b"\xff\xd9") > raw.rfind(b"\xff\xda") > 0
    elif raw.startswith(b"\x89PNG\r\n\x1a\n"):
        complete = raw.rfind(b"IEND\xae\x42\x60\x82") > 0
    else:
        raise ConversionError(f"compressed images of format {declared!r} cannot be read ({len(raw)} bytes); publish JPEG or PNG")
    decoded = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if complete else None
    if decoded is None:
        raise ConversionError(f"the compressed image ({declared!r}, {len(raw)} bytes) is cut off or damaged")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def message_from_image(image: NDArray[np.uint8], stamp: int, frame_id: str) -> Image:
    """(H, W, 3) uint8 RGB -> Image rgb8."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ConversionError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    return Image(header=header(stamp, frame_id), height=height, width=width, encoding="rgb8", step=3 * width, data=_bytes_of(image))


def compressed_message(data: bytes, image_format: str, stamp: int, frame_id: str) -> CompressedImage:
    """An encoded picture ("jpeg" or "png") -> CompressedImage, bytes as they are."""
    return CompressedImage(header=header(stamp, frame_id), format=image_format, data=array("B", data))


def camera_from_info(message: CameraInfo, T_camera_lidar: NDArray[np.float64]) -> Camera:
    """CameraInfo of a rectified image -> Camera; the whole 3x4 P counts (K where a driver leaves P empty).

    Args:
        T_camera_lidar: (4, 4) maps LiDAR points into the frame that the message's header names.

    Raises:
        ConversionError: not calibrated, distorted, rotated by R, binned or cropped, or without a size.
    """
    name = f"CameraInfo of {message.header.frame_id!r}"
    if np.any(message.d):
        raise ConversionError(
            f"{name} has distortion ({message.distortion_model}, d = {np.round(message.d, 4).tolist()}); images must be rectified: "
            "run image_proc, and publish the CameraInfo of the rectified image (d empty, P = the rectified camera)"
        )
    R = np.asarray(message.r, np.float64).reshape(3, 3)
    if R.any() and not np.allclose(R, np.eye(3), atol=1e-9):
        raise ConversionError(f"{name} has a rotation R; publish the CameraInfo of the rectified image (R = identity)")
    roi = message.roi
    if message.binning_x > 1 or message.binning_y > 1 or roi.x_offset or roi.y_offset or roi.width not in (0, message.width):
        raise ConversionError(f"{name} is binned or cropped (roi); publish the calibration of the image that is sent")
    P = np.asarray(message.p, np.float64).reshape(3, 4)
    if not P.any():
        P = np.hstack([np.asarray(message.k, np.float64).reshape(3, 3), np.zeros((3, 1))])
    if not (P[0, 0] > 0 and P[1, 1] > 0 and P[2, 2] > 0):
        raise ConversionError(f"{name} is not calibrated: its P is {P.tolist()}")
    try:
        return Camera.from_projection(P, T_camera_lidar, int(message.width), int(message.height))
    except ValueError as error:
        raise ConversionError(f"{name}: {error}") from error


def info_from_camera(camera: Camera, stamp: int, frame_id: str) -> CameraInfo:
    """Camera -> CameraInfo of a rectified image: P = [K | 0], R identity, no distortion. The extrinsics do not fit in it."""
    P = np.hstack([camera.K, np.zeros((3, 1))])
    return CameraInfo(
        header=header(stamp, frame_id),
        width=camera.width,
        height=camera.height,
        distortion_model="plumb_bob",
        d=[],
        k=camera.K.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=P.reshape(-1),
    )


def cloud_from_occupancy(occupancy: Occupancy) -> PointCloud2:
    """The occupied voxels' centres as a PointCloud2: x, y, z float32, label uint8, confidence float32, rgb packed."""
    centres, labels, confidence = occupancy.voxels()
    voxels = np.zeros(len(labels), VOXEL_DTYPE)
    voxels["x"], voxels["y"], voxels["z"] = centres.T
    voxels["label"], voxels["confidence"] = labels, confidence
    rgb = np.asarray(occupancy.taxonomy.colors, np.uint32)
    voxels["rgb"] = (rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2])[labels]
    fields = [_field(name, offset, PointField.FLOAT32) for name, offset in (("x", 0), ("y", 4), ("z", 8))]
    fields += [
        _field("label", 12, PointField.UINT8),
        _field("confidence", 16, PointField.FLOAT32),
        _field("rgb", 20, PointField.FLOAT32),
    ]
    return _cloud(header(occupancy.stamp, occupancy.frame_id), fields, VOXEL_DTYPE.itemsize, len(voxels), voxels)


def occupancy_from_cloud(message: PointCloud2, grid: VoxelGrid, taxonomy: Taxonomy) -> Occupancy:
    """The inverse of `cloud_from_occupancy`, given the grid and the taxonomy that it was made with.

    Raises:
        ConversionError: the cloud has another layout, or a voxel lies outside the grid or has a label the taxonomy lacks.
    """
    if message.point_step != VOXEL_DTYPE.itemsize or not {"label", "confidence"} <= {field.name for field in message.fields}:
        raise ConversionError(f"not a cloud of labelled voxels; its fields are {_field_list(message)}")
    raw = np.frombuffer(message.data, np.uint8)
    if len(raw) != message.width * message.point_step:
        raise ConversionError(f"{message.width} voxels need {message.width * message.point_step} bytes, the cloud has {len(raw)}")
    voxels = raw.view(VOXEL_DTYPE)
    ijk, inside = grid.index(np.stack([voxels["x"], voxels["y"], voxels["z"]], axis=1))
    if not inside.all():
        raise ConversionError(
            f"{int((~inside).sum())} of {len(voxels)} voxels lie outside the {grid.shape} grid; is it another's cloud?"
        )
    if len(voxels) and voxels["label"].max() >= len(taxonomy.names):
        raise ConversionError(f"label {int(voxels['label'].max())} is not one of {taxonomy.name}'s {len(taxonomy.names)} classes")
    labels = np.full(grid.shape, taxonomy.free, np.uint8)
    confidence = np.zeros(grid.shape, np.float16)
    at = tuple(ijk.T)
    labels[at], confidence[at] = voxels["label"], voxels["confidence"]
    return Occupancy(labels, confidence, grid, taxonomy, stamp_of(message), message.header.frame_id)


def stamp_of(message: Any) -> int:
    """Time of a message with a header, integer nanoseconds."""
    return nanoseconds(message.header.stamp)


def nanoseconds(time: Time) -> int:
    """builtin_interfaces Time -> integer nanoseconds."""
    return time.sec * NANOSECONDS + time.nanosec


def time_from(stamp: int) -> Time:
    """Integer nanoseconds -> builtin_interfaces Time.

    Raises:
        ConversionError: the seconds do not fit in the message's int32.
    """
    sec, nanosec = divmod(int(stamp), NANOSECONDS)
    if not -(2**31) <= sec < 2**31:
        raise ConversionError(f"{stamp} ns does not fit in a ROS time; are the stamps in nanoseconds?")
    return Time(sec=sec, nanosec=nanosec)


def header(stamp: int, frame_id: str) -> Header:
    """Header of a message at `stamp` nanoseconds."""
    return Header(stamp=time_from(stamp), frame_id=frame_id)


def _column(message: PointCloud2, field: PointField, allowed: tuple[str, ...]) -> tuple[int, np.dtype[Any]]:
    code = _POINT_TYPES.get(field.datatype)
    if code not in allowed or field.count > 1:
        raise ConversionError(f"field {field.name!r} must be one {' or '.join(allowed)}; the fields are {_field_list(message)}")
    dtype = np.dtype((">" if message.is_bigendian else "<") + code)
    if field.offset + dtype.itemsize > message.point_step:
        raise ConversionError(
            f"field {field.name!r} does not fit a point of {message.point_step} bytes; the fields are {_field_list(message)}"
        )
    return field.offset, dtype


def _packed_xyzi(
    message: PointCloud2, columns: list[tuple[int, np.dtype[Any]]], raw: NDArray[np.uint8], count: int
) -> NDArray[np.float32] | None:
    """The common layout, four packed float32 in a row, without a copy; None for every other layout."""
    packed = [(4 * i, np.dtype("<f4")) for i in range(4)]
    if columns != packed or message.point_step != 16 or message.row_step != message.width * 16:
        return None
    return raw[: 16 * count].view(np.float32).reshape(count, 4)


def _field_list(message: PointCloud2) -> str:
    names = {number: np.dtype(code).name for number, code in _POINT_TYPES.items()}
    return ", ".join(f"{f.name} {names.get(f.datatype, f'type {f.datatype}')}@{f.offset}" for f in message.fields) or "none"


def _field(name: str, offset: int, datatype: int) -> PointField:
    return PointField(name=name, offset=offset, datatype=datatype, count=1)


def _cloud(head: Header, fields: list[PointField], point_step: int, count: int, rows: NDArray[Any]) -> PointCloud2:
    return PointCloud2(
        header=head, height=1, width=count, fields=fields, is_bigendian=False, point_step=point_step,
        row_step=point_step * count, data=_bytes_of(rows), is_dense=True,
    )  # fmt: skip


def _bytes_of(values: NDArray[Any]) -> array[int]:
    data = array("B")
    if values.size:
        data.frombytes(memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8)))
    return data
