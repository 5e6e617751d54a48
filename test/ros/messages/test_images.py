# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
import zlib
from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from occle_core.sensors.images import decode_image, image_from_message
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_ros.messages.images import compressed_message, message_from_image

ORDERS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
"""Encoding -> which byte of a pixel is red, green, blue."""
BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def image_message(encoding: str, height: int, width: int, step: int, raw: bytes) -> Image:
    return Image(height=height, width=width, encoding=encoding, step=step, data=array("B", raw))


@settings(max_examples=80)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 5), st.sampled_from(sorted(ORDERS)), st.integers(0, 2**32 - 1))
def test_images_of_any_step_are_those_of_a_slow_reader(height, width, padding, encoding, seed):
    step = width * BYTES[encoding] + padding
    raw = np.random.default_rng(seed).integers(0, 256, height * step, np.uint8).tobytes()
    image = image_from_message(image_message(encoding, height, width, step, raw))
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    for v in range(height):
        for u in range(width):
            at = v * step + u * BYTES[encoding]
            assert image[v, u].tolist() == [raw[at + place] for place in ORDERS[encoding]]


def mosaic(image: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with this colour filter sees: `pattern` is the first row's two colours, then the second's."""
    out = np.zeros(image.shape[:2], np.uint8)
    for number, colour in enumerate(pattern):
        v, u = divmod(number, 2)
        out[v::2, u::2] = image[v::2, u::2, "rgb".index(colour)]
    return out


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("padding", [0, 3])
def test_bayer_mosaics_become_rgb(smooth, pattern, padding):
    """Neighbours of a smooth image differ little, a swapped pattern would exchange whole colours."""
    raw = mosaic(smooth, pattern)
    height, width = raw.shape
    rows = np.zeros((height, width + padding), np.uint8)
    rows[:, :width] = raw
    image = image_from_message(image_message(f"bayer_{pattern}8", height, width, width + padding, rows.tobytes()))
    difference = np.abs(image.astype(int) - smooth)[2:-2, 2:-2]
    assert difference.mean() < 2 and np.percentile(difference, 99) < 12
    assert np.abs(image.astype(int)[..., ::-1] - smooth).mean() > 20


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
@pytest.mark.parametrize("padding", [0, 6])
def test_yuv_becomes_rgb(encoding, padding):
    """BT.601, studio range (ITU-R BT.601-7, 2.5.3 with the 8-bit quantisation of 2.5.4); pairs of pixels share U and V."""
    colours = np.array([[200, 40, 30], [20, 180, 60], [10, 30, 220], [128, 128, 128], [250, 250, 10]], float)
    r, g, b = colours.T
    y = 16 + 65.481 / 255 * r + 128.553 / 255 * g + 24.966 / 255 * b
    u = 128 - 37.797 / 255 * r - 74.203 / 255 * g + 112 / 255 * b
    v = 128 + 112 / 255 * r - 93.786 / 255 * g - 18.214 / 255 * b
    quads = {"u": u, "v": v, "y": y}
    order = "uyvy" if encoding in ("yuv422", "uyvy") else "yuyv"
    row = np.stack([quads[letter] for letter in order], 1).round().astype(np.uint8).reshape(-1)
    rows = np.pad(np.tile(row, (2, 1)), ((0, 0), (0, padding)))
    image = image_from_message(image_message(encoding, 2, 2 * len(colours), rows.shape[1], rows.tobytes()))
    assert image.shape == (2, 10, 3)
    assert np.abs(image[:, ::2].astype(float) - colours).max() <= 4
    np.testing.assert_array_equal(image[:, ::2], image[:, 1::2])


def test_raw_image_survives_the_wire(smooth):
    message = message_from_image(smooth, 5, "cam2_optical")
    received = deserialize_message(serialize_message(message), Image)
    assert (received.encoding, received.step, stamp_of(received)) == ("rgb8", 3 * smooth.shape[1], 5)
    np.testing.assert_array_equal(image_from_message(received), smooth)


def test_an_unpadded_rgb_image_is_not_copied(smooth):
    message = message_from_image(smooth, 5, "c")
    assert np.shares_memory(image_from_message(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("mono16", r"/cam/image: encoding 'mono16' has more than 8 bits.*set the driver's encoding .* to rgb8"),
        ("rgb16", "more than 8 bits"),
        ("bayer_rggb16", "more than 8 bits"),
        ("16UC1", "depth images come: name the colour image's topic"),
        ("32FC1", "depth images come"),
        ("8UC3", r"does not say whether it is bgr8 or rgb8\); set the driver's encoding"),
        ("nv21", r"/cam/image: images encoded as 'nv21' cannot be read; .* one of rgb8, bgr8"),
        ("", "encoded as '' cannot be read"),
    ],
)
def test_encodings_that_cannot_be_read_are_named_with_what_to_do(smooth, encoding, words):
    message = message_from_image(smooth, 0, "c")
    message.encoding = encoding
    with pytest.raises(ConversionError, match=words):
        image_from_message(message, "/cam/image")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": array("B", bytes(60 * 240 - 1))}, r"60 pixels with step 240 need 14400 bytes, it has 14399"),
        ({"step": 239}, "does not fit its header"),
        ({"width": 0}, "does not fit its header"),
        ({"height": 0}, "does not fit its header"),
        ({"data": array("B")}, "it has 0"),
        ({"encoding": "yuv422", "width": 79}, "even width"),
        ({"encoding": "bayer_rggb8", "width": 3}, "too small"),
    ],
)
def test_headers_that_do_not_fit_the_data_are_refused(smooth, change, words):
    message = message_from_image(smooth, 0, "c")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ConversionError, match=words):
        image_from_message(message)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".jpg", 12)])
def test_compressed_images_become_rgb(smooth, suffix, tolerance):
    data = cv2.imencode(suffix, cv2.cvtColor(smooth, cv2.COLOR_RGB2BGR))[1].tobytes()
    received = deserialize_message(serialize_message(compressed_message(data, "jpeg", 7, "c")), CompressedImage)
    assert bytes(received.data) == data
    assert np.abs(image_from_message(received).astype(int) - smooth.astype(int)).max() <= tolerance


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("jpeg", "rgb"),
        ("rgb8; jpeg compressed bgr8", "rgb"),
        ("bgr8; jpeg compressed bgr8", "rgb"),
        ("bayer_rggb8; jpeg compressed bgr8", "rgb"),
        ("rgb8; png compressed bgr8", "rgb"),
        ("rgb8; jpeg compressed rgb8", "bgr"),
    ],
)
def test_what_image_transport_writes_into_format(smooth, declared, stored):
    """The plugin names the channel order that it encoded: rgb8 means that the file's red is the image's blue."""
    pixels = smooth if stored == "bgr" else smooth[..., ::-1]  # what imencode takes for BGR
    data = cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, declared), smooth)


def test_grey_and_mosaic_files(smooth):
    grey = np.ascontiguousarray(smooth[..., 0])
    data = cv2.imencode(".png", grey)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "mono8; png compressed mono8"), np.dstack([grey] * 3))
    raw = mosaic(smooth, "grbg")
    difference = decode_image(cv2.imencode(".png", raw)[1].tobytes(), "bayer_grbg8; png compressed ").astype(int) - smooth
    assert np.abs(difference[2:-2, 2:-2]).mean() < 2


def test_the_stored_orientation_stays(smooth):
    """EXIF orientation 6 asks for a quarter turn, which the calibration knows nothing of."""
    data = cv2.imencode(".jpg", smooth)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert decode_image(turned, "jpeg").shape == smooth.shape


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_compressed_image_is_refused(smooth, suffix, kept, capfd):
    data = cv2.imencode(suffix, smooth)[1].tobytes()
    with pytest.raises(ConversionError, match=r"/cam: .*(cut off or damaged|cannot be read)"):
        decode_image(data[: int(len(data) * kept)], "jpeg", "/cam")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "declared", "words"),
    [
        (b"\0\0\0\1abc", "h264", r"'h264' that begin with 00 00 00 01 cannot be read .*publish JPEG or PNG"),
        (b"", "jpeg", r"that begin with nothing cannot be read \(0 bytes\)"),
        (b"\0" * 12 + b"\x89PNG\r\n\x1a\n", "16UC1; compressedDepth png", "compressedDepth"),
        (b"\xff\xd8\xff\xda nonsense \xff\xd9", "jpeg", "cut off or damaged"),
    ],
)
def test_wrong_data_is_refused(data, declared, words):
    with pytest.raises(ConversionError, match=words):
        decode_image(data, declared)


def test_a_header_that_declares_a_monstrous_size_is_refused(smooth):
    png = bytearray(cv2.imencode(".png", smooth)[1].tobytes())
    png[16:24] = struct.pack(">II", 100_000, 100_000)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    jpeg = bytearray(cv2.imencode(".jpg", smooth)[1].tobytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    for data in (png, jpeg):
        with pytest.raises(ConversionError, match="cut off or damaged"):
            decode_image(bytes(data), "jpeg")


def test_a_png_of_16_bits_is_refused_and_not_cut_to_8():
    data = cv2.imencode(".png", np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000)[1].tobytes()
    with pytest.raises(ConversionError, match=r"/depth: .*PNG of 16 bits a channel has more than 8 bits"):
        decode_image(data, "16UC1; png compressed ", "/depth")


@settings(max_examples=60)
@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"]))
def test_noise_is_refused_whatever_it_begins_with(noise, beginning):
    with pytest.raises(ConversionError):
        decode_image(beginning + noise, "jpeg")


@pytest.fixture
def smooth(smooth_image) -> np.ndarray:
    return smooth_image(60, 80)
