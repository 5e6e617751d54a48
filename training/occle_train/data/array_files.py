# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Files of named arrays (.npz) that a training computes once and keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.datasets import DatasetError
from occle_core.datasets.files import read_npz, warn_once


def cached_arrays(file: Path, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of a file, computed and written if it is missing; a damaged file is logged and replaced.

    Raises:
        OSError: it cannot be written.
    """
    if file.exists():
        try:
            return read_npz(file)
        except DatasetError as error:
            warn_once(f"{error}; it is made anew")
    made = make()
    write_arrays(file, made)
    return made


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays atomically, compressed.

    Raises:
        OSError: it cannot be written.
    """
    save: Callable[..., None] = np.savez_compressed  # its options and the arrays' names share one namespace
    with atomic_write(file) as temporary:
        save(temporary, **arrays)
