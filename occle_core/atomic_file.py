# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Atomic writes: a file appears whole or not at all, with the mode that the umask asks for."""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; at the end of the `with` it replaces `path`, after an error it is removed.

    The temporary file has the suffix of `path`, since numpy and OpenCV choose their format by it. Parent folders are made.

    Raises:
        OSError: it cannot be written, or `path` is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file; give the name of a file")
    temporary = path.with_name(f".{secrets.token_hex(6)}.part{path.suffix}")
    # tempfile would make it 0600, and chmod cannot know the umask without changing it for all threads.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Files are written into a folder and those below, maybe by several processes; what killed ones left half-written goes.

    It is removed by a process that finds no other writing, so none loses a file that it is at.

    Raises:
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.rglob(f".{'?' * 12}.part*"):
                left.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # somebody writes
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically: NaN and the infinities, which JSON lacks, become null; numpy values become plain ones.

    Raises:
        OSError: it cannot be written. TypeError: a value that JSON has no form for.
    """
    text = json.dumps(_plain(value), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
