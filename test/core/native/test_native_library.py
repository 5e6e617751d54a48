# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Finding, building and calling the library: no compiler, a broken one, other sources, wrong arguments."""

import os
import re
import shutil

import numpy as np
import pytest
from forked_python import run_python
from lively import lively, street

from occle_core.bundle import load_bundle
from occle_core.engines.loading import load_engine
from occle_core.errors import EngineError
from occle_core.native import build, library, prepare
from occle_core.native.signatures import SIGNATURES
from occle_core.networks.minkocc.inputs import prepare as prepare_frame

KINDS = {"int64_t": "i", "float": "f", "double": "d", "void": "v", "Pool*": "p"}


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has loaded nothing, with an empty cache and no library in the package."""
    monkeypatch.setattr(library, "_LOADED", {})
    monkeypatch.setattr(build, "PREBUILT", tmp_path / "prebuilt")
    monkeypatch.setenv("OCCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def bundle(tmp_path):
    lively(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_signatures_are_those_of_the_sources():
    found = {}
    for path in build.SOURCES.glob("*.cpp"):
        exported = path.read_text().split('extern "C" {', 1)[1]
        for result, name, arguments in re.findall(r"^([\w*]+) (\w+)\(([^{;]*?)\) \{", exported, re.MULTILINE):
            kinds = ["p" if "*" in one else KINDS[one.split()[-2]] for one in arguments.split(",") if one.strip()]
            found[name] = (KINDS[result], "".join(kinds))
    assert found == SIGNATURES


def test_without_a_compiler_the_engine_says_what_to_install_and_auto_goes_on(fresh, bundle, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    spec, network, _ = load_bundle(bundle)
    with pytest.raises(EngineError, match=r"a C\+\+ compiler is not installed; install g\+\+"):
        load_engine(spec, network, bundle, "native")
    said = []
    engine = load_engine(spec, network, bundle, "auto", on_progress=said.append)
    assert engine.name != "native" and "not native: a C++ compiler is not installed" in engine.reason
    assert any("not native" in line for line in said)
    assert prepare.workspace() is None
    assert engine.run(prepare_frame(street(spec), spec.voxel_grid, spec.network)).labels.shape == spec.voxel_grid.shape


def test_a_broken_compiler_is_reported_with_what_it_says(fresh, bundle, monkeypatch, tmp_path):
    broken = tmp_path / "broken-c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "broken 1.0" && exit\necho "no room left" >&2; exit 3\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    spec, network, _ = load_bundle(bundle)
    with pytest.raises(EngineError, match=r"broken-c\+\+ fails with exit code 3 \(no room left\)"):
        load_engine(spec, network, bundle, "native")
    assert "exit code 3" in load_engine(spec, network, bundle, "auto").reason
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "broken 1.1" && exit\necho "No space left on device" >&2; exit 1\n')
    with pytest.raises(EngineError, match=r"No space left on device\); free space, or set OCCLE_CACHE and TMPDIR"):
        library.load()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EngineError, match=r"the C\+\+ compiler no-such-compiler \(CXX\) is not installed"):
        library.load()


def test_the_compiler_may_have_arguments(fresh, monkeypatch, tmp_path):
    """As in CXX="ccache g++", which build farms set."""
    wrapper = tmp_path / "ccache"
    wrapper.write_text('#!/bin/sh\n[ "$1" = c++ ] && [ "$2" = -m64 ] && [ "$3" = --version ] && echo "wrapped 1.0"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"{wrapper} c++ -m64")
    assert build.compiler() == ([str(wrapper), "c++", "-m64"], "wrapped 1.0")


def test_a_library_of_the_package_needs_no_compiler(fresh, kernels, libraries, monkeypatch):
    instructions = kernels.instructions
    build.PREBUILT.mkdir()
    shutil.copy(libraries / build.library_name(instructions), build.PREBUILT)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert library.load(instructions=instructions).lanes == kernels.lanes
    library._LOADED.clear()
    monkeypatch.setattr(build, "sources_digest", lambda: "0" * 64)
    with pytest.raises(EngineError, match="not installed"):
        library.load(instructions=instructions)


def test_a_library_is_compiled_once_for_the_cache(fresh, kernels, libraries, monkeypatch):
    compiled, said = [], []

    def compile_library(command, instructions, out):
        compiled.append(instructions)
        shutil.copy(libraries / build.library_name(instructions), out)

    monkeypatch.setattr(build, "compile_library", compile_library)
    for _ in range(2):
        library._LOADED.clear()
        assert library.load(said.append, kernels.instructions).lanes == kernels.lanes
    assert compiled == [kernels.instructions] and len(said) == 1 and "once" in said[0]


FORKED = """
import os
import numpy as np
from occle_core.native.conv import Weight, linear
from occle_core.native.library import load
from occle_core.native.workspace import Workspace

library = load()
space = Workspace(library, 3)
x, weight = np.ones((1000, 4), np.float32), Weight(library, np.ones((1, 4, 4)))
right = linear(space, x, weight).copy()
child = os.fork()
if not child:
    same = (linear(space, x, weight) == right).all()
    del space, weight
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert (linear(space, x, weight) == right).all()
"""


def test_threads_are_made_anew_in_a_forked_process(kernels):
    """What it inherits are the parent's threads in name only: it would wait for them for ever."""
    done = run_python(["-c", FORKED], timeout=60, environment={**os.environ, library.VARIABLE: kernels.instructions})
    assert done.returncode == 0, done.stderr


def test_a_library_that_is_none_is_refused(tmp_path):
    (tmp_path / "native.so").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"cannot be loaded .*; remove it"):
        library.Library(tmp_path / "native.so", "plain")


@pytest.mark.parametrize(("value", "message"), [("off", "turned off"), ("mmx", "no instruction set"), ("avx512", "has only")])
def test_the_variable_is_understood_or_refused(monkeypatch, value, message):
    monkeypatch.setenv(library.VARIABLE, value)
    monkeypatch.setattr(library, "supported", lambda: ("avx2", "plain"))
    with pytest.raises(EngineError, match=message):
        library.load()
    assert library.loaded() is None


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 4)), np.zeros((3, 5), np.float32), np.zeros(3, np.float32), np.zeros((4, 3), np.float32).T],
    ids=["type", "shape", "axes", "order"],
)
def test_arrays_are_checked(array):
    with pytest.raises(ValueError, match="expects float32"):
        library.address(array, np.float32, None, 4)


def test_libraries_for_wheels_are_built_by_a_command(libraries):
    assert {path.name for path in libraries.iterdir()} >= {build.library_name(name) for name in build.supported()}
