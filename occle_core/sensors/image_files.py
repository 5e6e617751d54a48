# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG bytes -> pixels; truncated and damaged files are refused instead of decoded to garbage.

JPEG is decoded by libjpeg-turbo (simplejpeg), whose warnings are errors here; OpenCV prints them and returns what it has. They show
every truncation, and every damage after which the codes give another number of blocks than the header declares. A damage that gives
exactly that number decodes validly: most single flipped bits, some overwritten ranges of a few dozen bytes. Of those,
`image_seams` finds the ones that shift brightness or colour of the rest of the picture. PNG has a checksum for every chunk.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from occle_core.sensors.image_seams import find_seam

MAX_SIDE = 16_384
"""Pixels; a header that declares more is damaged, or nothing that a camera sends."""
MAX_STRAY_BYTES = 16
"""Webcams (Logitech C270, C910) leave up to nine unused bytes before a marker in most of their frames, which have restart markers.
More is damage, as is any in a picture without restart markers, except zeros before its end."""

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_END_OF_IMAGE = b"\xff\xd9"
# Not a byte of 255 that is stuffed with 0, nor a restart marker; fill bytes of 255 may stand before a marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd[0-79]$")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)


class ImageFileError(ValueError):
    """A JPEG or PNG that cannot be decoded whole; the message says why."""


def decode_image(data: bytes, halved: bool = False) -> NDArray[np.uint8]:
    """A JPEG or PNG of 8 bits a channel -> (H, W, 3) uint8 RGB, or (H, W) where it is grey; in the orientation that is stored.

    A JPEG may lack its Huffman tables (MJPEG) or its end-of-image marker, and anything may follow it.

    Args:
        data: the file's bytes.
        halved: decode a JPEG at half its size (libjpeg's scaled decoding, which reads and checks the whole file all the same);
            see `halved_size`.

    Raises:
        ImageFileError: another format, cut off, damaged, or with a side of more than MAX_SIDE.
    """
    if data.startswith(_JPEG):
        return _decode_jpeg(data, halved)
    if data.startswith(_PNG):
        return _decode_png(data)
    raise ImageFileError(f"neither JPEG nor PNG: it begins with {data[:4].hex(' ') or 'nothing'}")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a JPEG's header declares; None for other data, or without a header before the first scan."""
    at = len(_JPEG)
    while data.startswith(_JPEG) and (marker := _MARKER.search(data, at)):
        code, at = data[marker.end() - 1], marker.end()
        segment = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        if code in _FRAMES and len(segment) >= 5:
            return int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big")
        if code in (0xDA, _END_OF_IMAGE[1]):
            break
        at += len(segment) + 2
    return None


def halved_size(size: tuple[int, int], needed: tuple[int, int] | None) -> tuple[int, int] | None:
    """(width, height) of a picture's half, where that is at least what is needed; None where it is not, or a side is odd.

    Half of an odd side would be rounded up, and its pixels be no longer twice as large as the picture's.
    """
    if needed is None or size[0] % 2 or size[1] % 2 or size[0] < 2 * needed[0] or size[1] < 2 * needed[1]:
        return None
    return size[0] // 2, size[1] // 2


def png_bits(data: bytes) -> int:
    """Bits a channel of a PNG; 0 where the data is none."""
    return data[24] if data.startswith(_PNG) and len(data) > 24 else 0


@dataclass
class _Header:
    """Header of a JPEG, read from its segments.

    Args:
        sequential: baseline or extended, not progressive.
        size: (width, height), pixels.
        block: (width, height) of the coding units, pixels.
        scans: byte offset of each scan's spectral selection, behind its component list.
        sharpness: component -> for each of its 64 coefficients how many low bits are still to come; 99 where all are.
        restarts: there are restart markers, which confine a damage to its interval.
        end: byte offset of the end-of-image marker; None: it is missing.
    """

    sequential: bool = True
    size: tuple[int, int] = (0, 0)
    block: tuple[int, int] = (8, 8)
    scans: list[int] = field(default_factory=list)
    sharpness: dict[int, list[int]] = field(default_factory=dict)
    restarts: bool = False
    end: int | None = None


def _decode_jpeg(data: bytes, halved: bool) -> NDArray[np.uint8]:
    header = _read_segments(data)
    if any(bits for missing in header.sharpness.values() for bits in missing):
        raise ImageFileError("cut off: scans are missing")
    if header.sequential and any(data[at : at + 3] != b"\0\x3f\0" for at in header.scans):
        # Some encoders leave these three bytes unset; a sequential scan always holds all coefficients.
        patched = bytearray(data)
        for at in header.scans:
            patched[at : at + 3] = b"\0\x3f\0"
        data = bytes(patched)
    if header.end is None:
        # A buffer that is larger than its picture ends with zeros.
        data = (data if data[-2:] != b"\0\0" else _without_padding(data)) + _END_OF_IMAGE
    pixels = _decode_whole_jpeg(data, header, (header.size[0] // 2, header.size[1] // 2) if halved else (0, 0))
    block = (header.block[0] // 2, header.block[1] // 2) if halved else header.block
    if seam := find_seam(pixels, block):
        raise ImageFileError(f"damaged: from pixel {seam} on its brightness or colour is shifted")
    return pixels


def _without_padding(data: bytes) -> bytes:
    """Without the zeros at the end; the one behind a byte of 255 belongs to the picture."""
    picture = data.rstrip(b"\0")
    return picture + b"\0" if picture.endswith(b"\xff") else picture


def _read_segments(data: bytes) -> _Header:
    header = _Header()
    at = len(_JPEG)
    while marker := _MARKER.search(data, at):
        code, at = data[marker.end() - 1], marker.end()
        if code == _END_OF_IMAGE[1]:
            header.end = marker.start()
            break
        segment = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        try:
            if code in _FRAMES:
                header.sequential = code in _SEQUENTIAL
                _read_frame(segment, header)
            elif code == 0xDD:
                header.restarts = any(segment[:2])
            elif code == 0xDA:
                _read_scan(segment, header)
                header.scans.append(at + 3 + 2 * segment[0])
        except (IndexError, KeyError) as error:
            raise ImageFileError("damaged: its segments do not fit together") from error
        at += len(segment) + 2
    if not header.scans:
        raise ImageFileError("cut off before its first scan")
    return header


def _read_frame(segment: bytes, header: _Header) -> None:
    height, width, components = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big"), segment[5]
    if max(height, width) > MAX_SIDE:
        raise ImageFileError(f"damaged: it declares {width} x {height} pixels, more than {MAX_SIDE} a side")
    if components not in (1, 3):
        raise ImageFileError(f"it has {components} colour channels; grey or three are read")
    header.size = width, height
    if components == 3:
        factors = [segment[7 + 3 * number] for number in range(components)]
        header.block = (8 * max(factor >> 4 for factor in factors), 8 * max(factor & 15 for factor in factors))
    header.sharpness = {segment[6 + 3 * number]: [99] * 64 for number in range(components)}


def _read_scan(segment: bytes, header: _Header) -> None:
    count = segment[0]
    first, last, approximation = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count]
    if header.sequential:
        first, last, approximation = 0, 63, 0
    for number in range(count):
        missing = header.sharpness[segment[1 + 2 * number]]
        for coefficient in range(first, last + 1):
            missing[coefficient] = min(missing[coefficient], approximation & 15)


def _decode_whole_jpeg(data: bytes, header: _Header, least: tuple[int, int]) -> NDArray[np.uint8]:
    grey = len(header.sharpness) == 1
    options = {"colorspace": "GRAY" if grey else "RGB", "min_width": least[0], "min_height": least[1]}
    try:
        pixels = simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        stray = _STRAY.search(str(error))
        if stray and header.restarts and int(stray[1]) <= MAX_STRAY_BYTES:
            pixels = simplejpeg.decode_jpeg(data, **options, strict=False)
        elif stray and header.end and data[header.end - 1] == 0:
            return _decode_whole_jpeg(_without_padding(data[: header.end]) + _END_OF_IMAGE, replace(header, end=None), least)
        else:
            raise ImageFileError(f"cut off or damaged: {error}") from error
    return np.asarray(pixels[..., 0] if grey else pixels, np.uint8)


def _decode_png(data: bytes) -> NDArray[np.uint8]:
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            raise ImageFileError("cut off")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageFileError(f"damaged: the checksum of its part {kind!r} is wrong")
        if at == len(_PNG) and (kind, size) != (b"IHDR", 13):
            raise ImageFileError("damaged: it does not begin with its size")
        if kind == b"IHDR" and max(np.frombuffer(data, ">u4", 2, at + 8)) > MAX_SIDE:
            raise ImageFileError(f"damaged: it declares more than {MAX_SIDE} pixels a side")
        at = end
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ImageFileError("damaged: its parts do not make a picture")
    return np.asarray(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
