# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The compiled kernels, for tests that need them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from occle_core.errors import EngineError
from occle_core.native import build, library


def load_or_skip(instructions: str | None = None) -> library.Library:
    """The library; skips without a compiler alone: sources that do not compile, or a library that does not load, are failures."""
    if not build.prebuilt(instructions or build.supported()[0]):
        try:
            build.compiler()
        except EngineError as error:
            pytest.skip(str(error))
    return library.load(instructions=instructions)


def padded_rows(kernels: library.Library, matrix: ArrayLike) -> NDArray[np.float32]:
    """(N, C) float -> (N, C rounded up to whole vectors), zeros behind."""
    rows = np.asarray(matrix, np.float32)
    return np.pad(rows, ((0, 0), (0, kernels.padded(rows.shape[1]) - rows.shape[1])))
