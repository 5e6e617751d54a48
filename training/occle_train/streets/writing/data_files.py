# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Images and arrays on disk; a disk that is full is an OSError, which OpenCV's and numpy's own writers do not give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def write_image(path: Path, image: NDArray[np.uint8], parameters: Sequence[int] = ()) -> None:
    """Write an image (H, W) grey or (H, W, 3) RGB, in the format that the suffix names.

    Args:
        path: .png, .jpg.
        image: uint8.
        parameters: of cv2.imencode.

    Raises:
        OSError: it cannot be written; `cv2.imwrite` would leave part of a file and say nothing.
    """
    pixels = image if image.ndim == 2 else image[..., ::-1]
    path.write_bytes(cv2.imencode(path.suffix, pixels, list(parameters))[1].tobytes())


def write_array(path: Path, values: NDArray[np.generic]) -> None:
    """Write the numbers of an array in C order, without a header.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(values.tobytes())
