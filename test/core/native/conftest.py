# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Kernels of every instruction set that this CPU has, on one thread and on two."""

import pytest
from compiled_kernels import load_or_skip
from forked_python import run_python

from occle_core.errors import EngineError
from occle_core.native import build
from occle_core.native.workspace import Workspace


@pytest.fixture(scope="session")
def libraries(made_once):
    """Folder of the libraries for a wheel, of every instruction set."""
    try:
        build.compiler()
    except EngineError as error:
        pytest.skip(str(error))

    def make(folder):
        done = run_python(["-m", "occle_core.native.build", folder], timeout=600)
        assert done.returncode == 0, done.stderr

    return made_once("native_libraries", make)


@pytest.fixture(scope="session", params=build.supported())
def kernels(request):
    with pytest.MonkeyPatch.context() as patch:
        if not build.prebuilt(request.param):
            patch.setattr(build, "PREBUILT", request.getfixturevalue("libraries"))
        yield load_or_skip(request.param)


@pytest.fixture(scope="session", params=[1, 2], ids=["1thread", "2threads"])
def space(kernels, request):
    return Workspace(kernels, request.param)
