# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Kernels of every instruction set that this CPU has, on one thread and on two."""

import pytest

from occle_core.errors import EngineError
from occle_core.native import build, library
from occle_core.native.workspace import Workspace


@pytest.fixture(scope="session", params=build.supported())
def kernels(request):
    """Skips without a compiler alone: sources that do not compile, or a library that does not load, are failures."""
    if not build.prebuilt(request.param):
        try:
            build.compiler()
        except EngineError as error:
            pytest.skip(str(error))
    return library.load(instructions=request.param)


@pytest.fixture(scope="session", params=[1, 2], ids=["1thread", "2threads"])
def space(kernels, request):
    return Workspace(kernels, request.param)
