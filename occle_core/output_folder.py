# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Output folders, written atomically and by one process at a time; a second run with the same name is refused."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from occle_core.errors import OccleError


class OutputError(OccleError, ValueError):
    """An output folder that cannot be written: it exists, or another process is writing it."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears at `out` when it is complete; after an error nothing is left. What a killed run left is replaced.

    Raises:
        OutputError: `out` exists, or another process is making it.
    """
    if output_exists(out):
        raise output_exists_error(out)
    workplace = out.parent / f".{out.name}.partial"
    workplace.mkdir(parents=True, exist_ok=True)
    with lock_folder(workplace, out):
        try:
            if output_exists(out):  # the process that made it may have ended a moment ago
                raise output_exists_error(out)
            for left in workplace.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            yield workplace
            if out.exists():
                out.rmdir()
            workplace.rename(out)
        except BaseException:
            shutil.rmtree(workplace, ignore_errors=True)
            raise


@contextmanager
def lock_folder(folder: Path, out: Path) -> Iterator[None]:
    """Hold a folder's lock, which the system releases when the process ends, however it ends.

    Args:
        folder: what is locked.
        out: what the user knows of it, for the message.

    Raises:
        OutputError: another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(handle), os.stat(folder))
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        if not is_there:
            raise OutputError(f"another process is writing {out} at this moment; wait for its end or choose another name")
        yield
    finally:
        os.close(handle)


def output_exists(out: Path) -> bool:
    """True if a path holds something; an empty folder does not count."""
    return os.path.lexists(out) and (not out.is_dir() or any(out.iterdir()))


def output_exists_error(out: Path) -> OutputError:
    """The error for an output that exists."""
    return OutputError(f"{out} exists already and is not overwritten; choose another name or remove it")
