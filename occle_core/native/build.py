# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Building the C++ sources into a library: `python -m occle_core.native.build FOLDER` does it ahead of time, for a wheel."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from occle_core.build_cache import cached
from occle_core.console import ProgressCallback
from occle_core.errors import EngineError

SOURCES = Path(__file__).with_name("src")
PREBUILT = Path(__file__).with_name("_prebuilt")
FLAGS: dict[str, tuple[str, ...]] = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma"),
    "plain": (),
}
"""Instruction sets, the widest first, and their flags; "plain" is what every CPU of the kind has (SSE2, NEON)."""
COMMON = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math")
CONTRACTED = "-ffp-contract=fast"
EXACT = dict.fromkeys(("mapping.cpp", "prepare.cpp", "rays.cpp", "resize.cpp"), "-ffp-contract=off")
"""Files whose results are NumPy's and OpenCV's bit by bit."""
COMPILERS = ("g++", "clang++")
REMEDY = "install g++ (apt install g++) or clang++, or name one in CXX"


@lru_cache(maxsize=1)
def supported() -> tuple[str, ...]:
    """The instruction sets that this CPU has, the widest first."""
    import torch  # takes seconds; drives are read and streets simulated without

    capability = torch.backends.cpu.get_cpu_capability()
    names = tuple(FLAGS)
    widest = {"AVX512": "avx512", "AVX2": "avx2"}.get(capability, "plain")
    return names[names.index(widest) :]


@lru_cache(maxsize=1)
def sources_digest() -> str:
    """Changes with every change of the sources and of the flags."""
    digest = hashlib.sha256(repr((FLAGS, COMMON, CONTRACTED, EXACT)).encode())
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".cpp", ".h"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def library_name(instructions: str) -> str:
    """File name of a library that is built ahead of time: one of other sources, or for another kind of CPU, is never loaded."""
    return f"{platform.system().lower()}-{platform.machine()}-{instructions}-{sources_digest()[:12]}.so"


def prebuilt(instructions: str) -> Path | None:
    """The library that came with the package, if one did."""
    path = PREBUILT / library_name(instructions)
    return path if path.is_file() else None


def built(instructions: str, progress: ProgressCallback) -> Path:
    """The library from the engine cache, compiled the first time.

    Raises:
        EngineError: there is no compiler, it fails, or the cache cannot be written.
    """
    command, version = compiler()
    key = {"kind": "native", "sources": sources_digest(), "compiler": version, "instructions": instructions}

    def build(folder: Path) -> None:
        progress(f"compiling the native kernels for {instructions} with {shlex.join(command)}, some seconds, once")
        compile_library(command, instructions, folder / "native.so")

    return cached(key, build, progress) / "native.so"


def compiler() -> tuple[list[str], str]:
    """The C++ compiler's command and version: $CXX, which may have arguments ("ccache g++"), else the first of COMPILERS.

    Raises:
        EngineError: there is none, or it does not answer.
    """
    named = os.environ.get("CXX", "").strip()
    for name in [named] if named else COMPILERS:
        first, *others = shlex.split(name)
        if path := shutil.which(first):
            return [path, *others], _run([path, *others, "--version"]).splitlines()[0]
    raise EngineError(f"{f'the C++ compiler {named} (CXX) is' if named else 'a C++ compiler is'} not installed; {REMEDY}")


def compile_library(command: Sequence[str], instructions: str, out: Path, extra: Sequence[str] = ()) -> None:
    """Compile all sources and link them.

    Args:
        command: the compiler's.
        instructions: one of FLAGS.
        out: the library to write.
        extra: more flags, such as those of a sanitizer.

    Raises:
        EngineError: the compiler fails; the message holds the end of what it says.
    """
    objects = []
    for source in sorted(SOURCES.glob("*.cpp")):
        objects.append(str(out.with_name(f"{out.stem}-{source.stem}.o")))
        contraction = EXACT.get(source.name, CONTRACTED)
        _run([*command, *COMMON, contraction, *FLAGS[instructions], *extra, "-c", str(source), "-o", objects[-1]])
    _run([*command, "-shared", "-pthread", *extra, *objects, "-o", str(out)])
    for path in objects:
        os.unlink(path)


def _run(command: Sequence[str]) -> str:
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the C++ compiler {command[0]} does not run ({error}); {REMEDY}") from error
    if run.returncode:
        said = " ".join((run.stderr or run.stdout).split())[-300:]
        full = "No space left" in said
        remedy = "free space, or set OCCLE_CACHE and TMPDIR to folders on another disk" if full else REMEDY
        raise EngineError(f"the C++ compiler {command[0]} fails with exit code {run.returncode} ({said}); {remedy}")
    return run.stdout


def main() -> int:
    """Compile for every instruction set that this kind of CPU may have."""
    parser = argparse.ArgumentParser(prog="python -m occle_core.native.build", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=PREBUILT, help="default: where the package looks for them")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    command, version = compiler()
    for instructions in FLAGS if platform.machine() in ("x86_64", "AMD64") else ("plain",):
        compile_library(command, instructions, given.folder / library_name(instructions))
        print(f"{given.folder / library_name(instructions)} ({version})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
