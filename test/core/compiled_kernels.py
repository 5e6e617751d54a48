# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The compiled kernels, for tests that need them."""

from __future__ import annotations

import pytest

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
