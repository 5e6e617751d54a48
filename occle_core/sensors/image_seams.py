# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The seam that a damaged JPEG scan leaves: from one block on, all that follows has another brightness or colour.

A JPEG stores each block's mean as a difference from the block before it. A damage that decodes to valid codes shifts all later
blocks, in reading order, by the same amount: a step along the upper border of the row of blocks where it happened, to the right of
the place, and along the lower border to the left of it. Edges of a scene do not run along block borders with such a corner.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_STEP = 4.0
"""Grey levels; smaller steps are not looked for."""
MIN_COLUMNS = 32
"""Blocks side by side; in smaller pictures an edge of the scene can pass for a seam."""
_SHARE, _ORDER = 0.6, 0.9


def find_seam(image: NDArray[np.uint8], block: tuple[int, int]) -> tuple[int, int] | None:
    """First pixel from which the brightness or colour of a decoded JPEG is shifted: (column, row), to a block; None: nowhere.

    Most of the row's columns have to show the step on the one border and none on the other, in an order with a single corner. A
    damage in the first or the last row of blocks, at a row's very end, or in a small picture (MIN_COLUMNS) is not seen.

    Args:
        image: (H, W, 3) or (H, W) uint8 as decoded.
        block: (width, height) of the file's coding units (MCU), pixels.
    """
    width, height = block
    columns = image.shape[1] // width
    if columns < MIN_COLUMNS or image.shape[0] < 3 * height:
        return None
    steps = _steps(image, block)
    above, below = steps[:-1], steps[1:]  # the upper and the lower border of each row of blocks but the first and the last
    shift = np.median(above + below, axis=1)
    size = np.sqrt((shift * shift).mean(-1))
    for row in np.flatnonzero(size >= MIN_STEP):
        unit = shift[row] / (shift[row] @ shift[row])
        upper, lower = above[row] @ unit, below[row] @ unit  # as multiples of the shift
        # Where black or white ends the scale the step is smaller than elsewhere, and the median with it.
        left = (lower > 0.5) & (lower < 2.5) & (np.abs(upper) < 0.5)
        right = (upper > 0.5) & (upper < 2.5) & (np.abs(lower) < 0.5)
        in_order = np.cumsum(left)[:-1] + np.cumsum(right[::-1])[-2::-1]  # with the corner behind each column but the last
        corner = int(in_order.argmax()) + 1
        shortest = min(left[:corner].sum(), right[corner:].sum())
        found = in_order[corner - 1]
        clear = left.sum() + right.sum()
        if shortest >= max(1, columns / 50) and found >= _SHARE * columns + 2 and found >= _ORDER * clear:
            return corner * width, (int(row) + 1) * height
    return None


def _steps(image: NDArray[np.uint8], block: tuple[int, int]) -> NDArray[np.float32]:
    """Jumps across the borders between rows of blocks, (rows - 1, columns, channels), means over a block's width.

    A jump is what exceeds the slopes on both sides. It is taken two pixels from the border, where interpolated colour is already
    the block's own.
    """
    width, height = block
    rows, columns = image.shape[0] // height, image.shape[1] // width
    inner = image[: rows * height, : columns * width]

    def line(offset: int) -> NDArray[np.float32]:
        pixels = inner[height + offset : (rows - 1) * height + offset + 1 : height]
        means = cv2.resize(pixels, (columns, rows - 1), interpolation=cv2.INTER_AREA)
        return means.reshape(rows - 1, columns, -1).astype(np.float32)

    before, near, far, after = line(-4), line(-2), line(1), line(3)
    return np.asarray(1.75 * (far - near) - 0.75 * (after - before), np.float32)
