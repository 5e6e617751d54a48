# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The kernels' tests once more on libraries that are built with sanitizers: no access out of bounds, no undefined behaviour."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from occle_core.native import build

TESTS = ("conv", "decoder", "images", "layers", "mapping", "points", "prepare")
RUN = """
import sys
from pathlib import Path
import pytest
from occle_core.native import build
build.PREBUILT = Path(sys.argv[1])
assert all(build.prebuilt(instructions) for instructions in build.supported())
sys.exit(pytest.main(["-s", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))  # -s: what sanitizers say
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "runtime"), [("address,undefined", "libasan.so"), ("thread", "libtsan.so")], ids=["memory", "threads"]
)
def test_the_kernels_under_sanitizers(kind, runtime, tmp_path):
    command, version = build.compiler()
    preload = subprocess.run([*command, f"-print-file-name={runtime}"], capture_output=True, text=True, check=True).stdout.strip()
    if "clang" in version or not Path(preload).is_file():
        pytest.skip(f"{command[0]} has no {runtime}")
    extra = ("-g", "-O1", f"-fsanitize={kind}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
    for instructions in build.supported():
        build.compile_library(command, instructions, tmp_path / build.library_name(instructions), extra)
    files = [str(Path(__file__).with_name(f"test_native_{subject}.py")) for subject in TESTS]
    options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1", "LD_PRELOAD": preload}
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), *files], capture_output=True, text=True, env=os.environ | options, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
