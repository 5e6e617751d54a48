# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checks of occle sequences' files, which anyone may write: docs/reference/sequence_layout.md."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import COPY_AGAIN

REFERENCE = "docs/reference/sequence_layout.md"
KINDS = {"u1": "uint8", "iu": "whole numbers", "biu": "bool", "f": "float"}
"""Kinds of numpy's types, u1 being one byte each, in words."""


def check_array(
    file: Path, data: dict[str, NDArray[Any]], name: str, kinds: str, shape: tuple[int, ...], why: str = ""
) -> NDArray[Any]:
    """An array of a file.

    Args:
        file: for the error.
        data: its arrays.
        name: of the array.
        kinds: one of KINDS.
        shape: which it must have.
        why: for the error.

    Raises:
        DatasetError: it is of another type or shape.
    """
    array = data[name]
    if array.shape != shape or array.dtype.kind not in kinds or (kinds == "u1" and array.dtype.itemsize != 1):
        raise DatasetError(f"{file}: {name} is {array.dtype} {array.shape}, expected {KINDS[kinds]} {shape}{why} ({REFERENCE})")
    return array


def listed_frames(file: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames of a frames.json.

    Args:
        file: for the error.
        content: what it holds.

    Raises:
        DatasetError: there is no list of frames, or one lacks what a frame has.
    """
    frames = content.get("frames")
    if not isinstance(frames, list):
        raise DatasetError(f'{file} has no list "frames" ({REFERENCE}); {COPY_AGAIN}')
    for place, frame in enumerate(frames):
        fits = isinstance(frame, dict) and all(type(frame.get(key)) is int for key in ("number", "stamp"))
        images = frame.get("images", {}) if fits else {}
        if not fits or not isinstance(images, dict) or not all(map(_is_image, images.values())):
            raise DatasetError(
                f"{file}: entry {place} of frames needs a number and a stamp, whole numbers (nanoseconds), and images as camera -> "
                f'{{"file": ..., "stamp": ...}} ({REFERENCE})'
            )
    return frames


def frames_in_order(frames: Sequence[tuple[Path, dict[str, Any]]]) -> list[tuple[Path, dict[str, Any]]]:
    """Frames of all shards by their numbers.

    Args:
        frames: the frames.json of each, and its entry there.

    Raises:
        DatasetError: a number comes twice, or stamps do not ascend with the numbers.
    """
    ordered = sorted(frames, key=lambda each: int(each[1]["number"]))
    for (_, before), (file, after) in pairwise(ordered):
        if before["number"] == after["number"] or before["stamp"] > after["stamp"]:
            raise DatasetError(
                f"{file}: frame {after['number']} of stamp {after['stamp']} follows frame {before['number']} of stamp "
                f"{before['stamp']}; each number comes once, and stamps ascend with them ({REFERENCE})"
            )
    return ordered


def _is_image(entry: Any) -> bool:
    return not entry or (isinstance(entry, dict) and isinstance(entry.get("file"), str) and type(entry.get("stamp")) is int)
