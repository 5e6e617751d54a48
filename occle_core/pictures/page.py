# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Legends, and pictures with titles side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.taxonomy import Taxonomy

PAPER, INK, FRAME = (255, 255, 255), (35, 38, 43), (120, 124, 130)
FONT = cv2.FONT_HERSHEY_SIMPLEX
GAP = 10  # pixels between pictures and around the page


def legend(labels: Sequence[NDArray[np.uint8]], taxonomy: Taxonomy, width: int = 960) -> NDArray[np.uint8]:
    """Colours and names of the classes that occur in any of the label arrays, in as many rows as the width needs.

    Args:
        labels: arrays of class ids of any shape; free and unknown are left out.
        width: pixels.

    Returns:
        (H, width, 3) uint8 RGB.
    """
    ids = np.unique(np.concatenate([np.unique(part) for part in labels] or [np.zeros(0, np.uint8)]))
    entries = [int(i) for i in ids if i not in (taxonomy.free, taxonomy.ignore)]
    swatch, row_height, places = 16, 26, []
    x, row = GAP, 0
    for entry in entries:
        (text_width, _), _ = cv2.getTextSize(taxonomy.names[entry], FONT, 0.5, 1)
        needed = swatch + 6 + text_width + 16
        if x > GAP and x + needed > width:
            x, row = GAP, row + 1
        places.append((entry, x, row))
        x += needed
    picture = np.full(((row + 1) * row_height + 4, width, 3), PAPER, np.uint8)
    for entry, left, line in places:
        top = 4 + line * row_height
        color = tuple(int(c) for c in taxonomy.colors[entry])
        cv2.rectangle(picture, (left, top), (left + swatch, top + swatch), color, cv2.FILLED)
        cv2.rectangle(picture, (left, top), (left + swatch, top + swatch), FRAME, 1)
        cv2.putText(picture, taxonomy.names[entry], (left + swatch + 6, top + 13), FONT, 0.5, INK, 1, cv2.LINE_AA)
    return picture


def panel(
    rows: Sequence[Sequence[tuple[str, NDArray[np.uint8]]]], width: int = 1600, footer: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """A page of pictures with titles: every row's pictures get one height and fill the width together.

    Args:
        rows: per row its (title, (H, W, 3) uint8 RGB picture) pairs, left to right; an empty title takes no room if the
            whole row has none.
        width: of the page, pixels.
        footer: a picture such as a legend, put below as it is (cut or padded to the width).

    Returns:
        (H, width, 3) uint8 RGB.

    Raises:
        ValueError: there is no picture, a row is empty, or something is not an (H, W, 3) uint8 array.
    """
    if not rows or not all(rows):
        raise ValueError("a panel needs at least one row, and every row at least one picture")
    for title, picture in (pair for row in rows for pair in row):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"picture {title!r} must be (H, W, 3) uint8, not {picture.dtype} {picture.shape}")
    strips = [_row(row, width) for row in rows]
    if footer is not None:
        strip = np.full((footer.shape[0] + GAP // 2, width, 3), PAPER, np.uint8)
        strip[: footer.shape[0], : footer.shape[1]] = footer[:, :width]
        strips.append(strip)
    return np.concatenate(strips)


def _row(pairs: Sequence[tuple[str, NDArray[np.uint8]]], width: int) -> NDArray[np.uint8]:
    room = width - GAP * (len(pairs) + 1)
    aspects = [picture.shape[1] / picture.shape[0] for _, picture in pairs]
    height = max(1, round(room / sum(aspects)))
    head = 30 if any(title for title, _ in pairs) else GAP
    strip = np.full((head + height + GAP // 2, width, 3), PAPER, np.uint8)
    left = GAP
    for number, ((title, picture), aspect) in enumerate(zip(pairs, aspects)):
        # The last picture takes what rounding left over, so that rows end flush.
        wide = width - GAP - left if number == len(pairs) - 1 else round(aspect * height)
        shrinks = wide < picture.shape[1]
        resized = cv2.resize(picture, (wide, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        strip[head : head + height, left : left + wide] = resized
        cv2.putText(strip, title, (left, 21), FONT, 0.6, INK, 1, cv2.LINE_AA)
        left += wide + GAP
    return strip
