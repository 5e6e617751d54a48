# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures that lost data are refused; those that lack nothing but formalities decode to the same pixels."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_bytes import decoded, jpeg, picture, png
from slow_jpeg import is_whole

from occle_core.sensors import image_files
from occle_core.sensors.image_files import MAX_STRAY_BYTES, ImageFileError, decode_image, halved_size, jpeg_size

SMALL = picture(24, 40, noise=6)
KINDS = {
    "4:2:0": jpeg(SMALL),
    "4:2:2": jpeg(SMALL, 422),
    "4:4:4": jpeg(SMALL, 444),
    "grey": jpeg(SMALL[..., 0]),
    "optimized": jpeg(SMALL, optimize=1),
    "progressive": jpeg(SMALL, progressive=1),
    "progressive grey": jpeg(SMALL[..., 0], progressive=1),
    "restart markers": jpeg(SMALL, rst_interval=1),
}
BASELINE = ("4:2:0", "4:2:2", "4:4:4", "grey", "optimized")


def scan_start(data: bytes) -> int:
    at = data.index(b"\xff\xda") + 2
    return at + int.from_bytes(data[at : at + 2], "big")


def without_segments(data: bytes, dropped: int) -> bytes:
    out, at = data[:2], 2
    while data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        out += b"" if data[at + 1] == dropped else data[at : at + size]
        at += size
    return out + data[at:]


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_opencv(kind):
    expected = cv2.imdecode(np.frombuffer(KINDS[kind], np.uint8), cv2.IMREAD_ANYCOLOR)
    np.testing.assert_array_equal(decode_image(KINDS[kind]), expected if expected.ndim == 2 else expected[..., ::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_at_half_its_size_is_that_of_opencv_and_near_the_mean_of_four_pixels(kind):
    data, full = KINDS[kind], decode_image(KINDS[kind])
    half = decode_image(data, halved=True)
    grey = full.ndim == 2
    flag = cv2.IMREAD_REDUCED_GRAYSCALE_2 if grey else cv2.IMREAD_REDUCED_COLOR_2
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    np.testing.assert_array_equal(half, expected if grey else expected[..., ::-1])
    assert jpeg_size(data) == full.shape[1::-1] == (2 * half.shape[1], 2 * half.shape[0])
    assert np.abs(half - cv2.resize(full, half.shape[1::-1], interpolation=cv2.INTER_AREA).astype(int)).mean() < 1.5


@pytest.mark.parametrize(
    ("size", "needed", "half"),
    [
        ((1600, 900), (704, 256), (800, 450)),
        ((1600, 900), (800, 450), (800, 450)),
        ((1600, 900), (801, 450), None),
        ((1600, 900), (352, 451), None),
        ((1242, 375), (352, 128), None),
        ((1600, 900), None, None),
    ],
)
def test_only_pictures_of_even_sides_and_twice_what_is_needed_are_halved(size, needed, half):
    assert halved_size(size, needed) == half


def test_a_size_is_read_of_whole_headers_only():
    assert jpeg_size(png(SMALL)) is None and jpeg_size(b"") is None
    data = KINDS["4:2:0"]
    assert {jpeg_size(data[:kept]) for kept in range(scan_start(data))} <= {None, (40, 24)}


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", bytes(300)])
def test_a_jpeg_that_is_cut_anywhere_is_refused(kind, end, halved):
    """With an end-of-image marker or the zeros of a larger buffer behind the cut too; only the marker itself may be missing."""
    data = KINDS[kind]
    whole = decode_image(data, halved)
    for kept in range(len(data)):
        found = decoded(data[:kept] + end, halved)
        assert found is None or (kept >= len(data) - 2 and np.array_equal(found, whole)), kept


@pytest.mark.parametrize("kind", KINDS)
def test_what_lacks_nothing_of_the_picture_decodes_to_the_same_pixels(kind):
    data = KINDS[kind]
    whole = decode_image(data)
    variants = {
        "padded": data + bytes(5000),
        "padded before the end": data[:-2] + bytes(7) + data[-2:],
        "no end": data[:-2],
        "no end, padded": data[:-2] + bytes(400),
        "half an end": data[:-1],
        "fill bytes": data[:-2] + b"\xff\xff\xff\xd9",
        "something behind it": data + b"trailer" + data,
        "a thumbnail before it": data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data + data[2:],
    }
    if "progressive" not in kind and kind != "optimized":
        variants["MJPEG without tables"] = without_segments(data, 0xC4)
    for name, variant in variants.items():
        found = decoded(variant)
        assert found is not None and np.array_equal(found, whole), name


def test_sequential_scans_with_unset_parameters_are_read():
    """Some cameras leave the spectral selection 0, which a baseline scan does not use."""
    data = bytearray(KINDS["4:2:0"])
    start = scan_start(data)
    assert data[start - 3 : start] == b"\0\x3f\0"
    data[start - 3 : start] = b"\0\0\0"
    np.testing.assert_array_equal(decode_image(bytes(data)), decode_image(KINDS["4:2:0"]))


@pytest.mark.parametrize("marker", [0xD9, 0xD1])
def test_webcams_stray_bytes_are_tolerated_and_larger_gaps_are_not(marker):
    data = KINDS["restart markers"]
    at = data.index(bytes([255, marker]), scan_start(data))
    for count in (1, 9, MAX_STRAY_BYTES):
        np.testing.assert_array_equal(decode_image(data[:at] + b"\x5a" * count + data[at:]), decode_image(data))
    assert decoded(data[:at] + b"\x5a" * (MAX_STRAY_BYTES + 1) + data[at:]) is None


@pytest.mark.parametrize("kind", BASELINE)
def test_without_restart_markers_only_zeros_may_stand_before_the_end(kind):
    data = KINDS[kind]
    for count in (1, 12, 900):
        np.testing.assert_array_equal(decode_image(data[:-2] + bytes(count) + data[-2:]), decode_image(data))
    assert decoded(data[:-2] + b"\x5a" * 12 + data[-2:]) is None
    assert decoded(data[:-40] + bytes(38) + data[-2:]) is None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(BASELINE), st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40))
def test_what_is_accepted_holds_the_declared_number_of_blocks(kind, place, removed, put_in):
    """Against the standard's decoding process, bit by bit."""
    data = KINDS[kind]
    start = scan_start(data)
    at = start + int(place * (len(data) - 2 - start))
    damaged = data[:at] + put_in + data[min(at + removed, len(data) - 2) :]
    if decoded(damaged) is not None:
        unpadded = damaged[:-2].rstrip(b"\0") + (b"\0" if damaged[:-2].rstrip(b"\0").endswith(b"\xff") else b"") + damaged[-2:]
        assert is_whole(damaged, 8) or is_whole(unpadded, 8)  # of libjpeg's bit buffer, which it does not count


def test_the_reference_reads_whole_files():
    for kind in BASELINE:
        assert is_whole(KINDS[kind]) and not is_whole(KINDS[kind][:-12] + b"\xff\xd9")


@pytest.mark.parametrize("halved", [False, True])
def test_lost_data_leaves_a_wrong_picture_only_where_it_decodes_validly(halved):
    """Ranges that are removed, zeroed or overwritten: how many of 150 are accepted with more than 4 grey levels of mean error.

    Some remain: the codes happen to give the right number of blocks, and the damage runs over the end of a row of blocks.
    """
    data = jpeg(picture(480, 640, noise=4))
    whole, start = decode_image(data, halved).astype(int), scan_start(data)
    limits = {("removed", 1400): 0, ("removed", 512): 0, ("zeroed", 512): 0, ("overwritten", 512): 1, ("removed", 40): 2}
    limits |= {("overwritten", 40): 20}
    for (how, size), most in limits.items():
        wrong = 0
        for seed in range(150):
            rng = np.random.default_rng(seed)
            at = int(rng.integers(start, len(data) - 1500))
            noise = rng.integers(0, 256, size).astype(np.uint8).tobytes()
            put_in = {"removed": b"", "zeroed": bytes(size), "overwritten": noise}[how]
            found = decoded(data[:at] + put_in + data[at + size :], halved)
            wrong += found is not None and bool(np.abs(found - whole).mean() > 4)
        assert wrong <= most, (how, size, wrong)


@pytest.mark.parametrize("shape", [(9, 13, 3), (9, 13), (9, 13, 4)])
def test_a_png_that_is_cut_or_changed_anywhere_is_refused(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = png(image)
    whole = decode_image(data)
    np.testing.assert_array_equal(whole, image if image.ndim == 2 else image[..., 2::-1])
    np.testing.assert_array_equal(decode_image(data + bytes(77)), whole)
    for at in range(len(data)):
        assert decoded(data[:at]) is None, at
        assert decoded(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]) is None, at


def test_a_png_that_lacks_a_part_is_refused():
    data = png(picture(60, 80, noise=9))
    parts, at = [], 8
    while at < len(data):
        size = 12 + int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at : at + size])
        at += size
    assert [part[4:8] for part in parts].count(b"IDAT") > 1
    for number in range(len(parts)):
        assert decoded(data[:8] + b"".join(parts[:number] + parts[number + 1 :])) is None, parts[number][4:8]


@pytest.mark.parametrize("size", [(65_000, 8), (8, 65_000)])
def test_headers_that_declare_a_monstrous_size_are_refused_before_memory_is_taken(size):
    data = bytearray(png(SMALL))
    data[16:24] = struct.pack(">II", *size)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    monstrous = bytearray(KINDS["4:2:0"])
    at = monstrous.index(b"\xff\xc0")
    monstrous[at + 5 : at + 9] = struct.pack(">HH", *size)
    for each in (data, monstrous):
        with pytest.raises(ImageFileError, match="16384"):
            decode_image(bytes(each))


def test_other_channels_and_formats_are_named():
    data = bytearray(KINDS["4:2:0"])
    data[data.index(b"\xff\xc0") + 9] = 4
    with pytest.raises(ImageFileError, match="4 colour channels"):
        decode_image(bytes(data))
    with pytest.raises(ImageFileError, match="neither JPEG nor PNG: it begins with 47 49 46 38"):
        decode_image(b"GIF89a")
    with pytest.raises(ImageFileError, match="nothing"):
        decode_image(b"")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*KINDS.values(), png(SMALL)]), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6))
def test_any_changed_bytes_give_a_picture_or_the_one_error(data, changes):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * (len(data) - 1))] = value
    found = decoded(bytes(damaged))
    assert found is None or (found.dtype == np.uint8 and found.ndim in (2, 3))


def test_bits_of_a_png():
    assert image_files.png_bits(png(np.zeros((3, 4), np.uint16))) == 16
    assert image_files.png_bits(png(SMALL)) == 8
    assert image_files.png_bits(KINDS["grey"]) == 0
