# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The compiled library of this process: found, built, and called with checked arguments."""

from __future__ import annotations

import ctypes
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.console import ProgressCallback
from occle_core.errors import EngineError
from occle_core.native.build import FLAGS, built, prebuilt, supported
from occle_core.native.signatures import SIGNATURES

VARIABLE = "OCCLE_NATIVE"
"""Environment variable: the instruction set to use, one of build.FLAGS, or "off"."""

Array = NDArray[Any]


class Library:
    """A loaded library; calls release Python's lock.

    Args:
        path: the shared object.
        instructions: what it was compiled for, one of `build.FLAGS`.

    Raises:
        EngineError: it cannot be loaded, or lacks a function.
    """

    def __init__(self, path: Path, instructions: str) -> None:
        self.instructions = instructions
        try:
            library = ctypes.CDLL(str(path))
            self._functions = {name: getattr(library, name) for name in SIGNATURES}
        except (OSError, AttributeError) as error:
            raise EngineError(f"the native library {path} cannot be loaded ({error}); remove it") from error
        kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double, "v": None}
        for name, function in self._functions.items():
            result, arguments = SIGNATURES[name]
            function.restype = kinds[result]
            function.argtypes = [kinds[kind] for kind in arguments]
        self._constants: dict[tuple[str, tuple[int, ...]], int] = {}
        self.lanes: int = self.call("lanes")
        """Floats of a vector; widths of features are multiples of it."""
        self.tile_rows: int = self.call("tile_rows")
        """Output rows of a tile of pairs."""

    def call(self, name: str, *arguments: int | float | None) -> Any:
        """Call a function; arrays are passed by `address`."""
        return self._functions[name](*arguments)

    def constant(self, name: str, *arguments: int) -> int:
        """What a function returns that depends on its arguments alone: asked once."""
        key = (name, arguments)
        if key not in self._constants:
            self._constants[key] = self.call(name, *arguments)
        return self._constants[key]

    def padded(self, channels: int) -> int:
        """Channels rounded up to whole vectors."""
        return -(-channels // self.lanes) * self.lanes


def address(array: Array, dtype: type[np.generic], *shape: int | None) -> int:
    """Where an array's numbers lie, for a kernel that reads or writes all of them.

    Args:
        array: in C order.
        dtype: what the kernel expects.
        shape: what it expects; None stands for any length.

    Raises:
        ValueError: the array is of another type or shape, or not contiguous.
    """
    kind = array.dtype
    fits = ((kind.type is dtype and kind.isnative) or kind == dtype) and array.ndim == len(shape)
    for own, wanted in zip(array.shape, shape):
        fits = fits and (wanted is None or own == wanted)
    if fits:
        try:
            # Faster than `array.ctypes.data`, and a frame asks hundreds of times; what is not contiguous has no such buffer.
            return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # numpy is a buffer
        except (TypeError, ValueError):  # it is read-only, empty, or not contiguous
            if array.flags.c_contiguous:
                return int(array.ctypes.data)
    order = "" if array.flags.c_contiguous else ", not contiguous"
    expected = tuple("any" if wanted is None else wanted for wanted in shape)
    raise ValueError(f"a native kernel expects {np.dtype(dtype)} {expected}, not {array.dtype} {array.shape}{order}")


class Pool:
    """Threads that share the work of kernels; one kernel at a time. A forked process makes its own: threads do not survive a fork.

    Args:
        library: whose kernels.
        threads: how many, the caller's own included.
    """

    def __init__(self, library: Library, threads: int) -> None:
        self.threads = max(1, threads)
        self._library = library
        self._create()

    @property
    def handle(self) -> int:
        """What kernels are given."""
        if self._process != os.getpid():
            self._create()  # the parent's is left as it is: to end it would be to wait for its threads
        return self._handle

    def _create(self) -> None:
        self._handle: int = self._library.call("pool_create", self.threads)
        self._process = os.getpid()

    def __del__(self) -> None:
        if getattr(self, "_process", None) == os.getpid():
            self._library.call("pool_destroy", self._handle)


_LOCK = threading.Lock()


def load(progress: ProgressCallback = lambda text: None, instructions: str | None = None) -> Library:
    """The library for this CPU: the package's own, or one from the engine cache, compiled the first time.

    Args:
        progress: called with what takes long.
        instructions: one of `build.FLAGS`; None takes $OCCLE_NATIVE, or the widest that this CPU has.

    Raises:
        EngineError: it is turned off, the CPU lacks these instructions, or no library is there and none can be compiled.
    """
    wanted = _chosen(instructions)
    with _LOCK:
        if wanted not in _LOADED:
            _LOADED[wanted] = Library(prebuilt(wanted) or built(wanted, progress), wanted)
        return _LOADED[wanted]


def loaded() -> Library | None:
    """The library if this process has loaded one already: what asks for it implicitly never waits for a compiler."""
    if not _LOADED:
        return None
    try:
        return _LOADED.get(_chosen(None))
    except EngineError:
        return None


_LOADED: dict[str, Library] = {}


def _chosen(instructions: str | None) -> str:
    named = os.environ.get(VARIABLE)
    wanted = instructions or named or _widest()
    asked = repr(wanted) if instructions else f"{VARIABLE}={wanted}"
    if wanted == "off":
        raise EngineError(f"native kernels are turned off ({asked})")
    if wanted not in FLAGS:
        raise EngineError(f"{asked} is no instruction set; there are {', '.join(FLAGS)} and off")
    if wanted not in supported():
        raise EngineError(f"{asked}: this CPU has only {', '.join(supported())}")
    return wanted


@lru_cache(maxsize=1)
def _widest() -> str:
    return supported()[0]
