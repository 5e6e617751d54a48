# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Kernels of every instruction set that this CPU has, on one thread and on two."""

import pytest
from compiled_kernels import load_or_skip

from occle_core.native import build
from occle_core.native.workspace import Workspace


@pytest.fixture(scope="session", params=build.supported())
def kernels(request):
    return load_or_skip(request.param)


@pytest.fixture(scope="session", params=[1, 2], ids=["1thread", "2threads"])
def space(kernels, request):
    return Workspace(kernels, request.param)
