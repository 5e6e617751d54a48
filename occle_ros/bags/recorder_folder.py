# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Folder of a recording: locking, and preservation of an interrupted recording of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from occle_core.bags.writer import is_interrupted
from occle_core.console import print_notice, shell_quote
from occle_core.output_folder import lock_folder, output_exists_error


@contextmanager
def recording_folder(out: Path) -> Iterator[None]:
    """Create and lock the folder of a new recording; an empty one is removed at the end.

    An interrupted recording in its place is moved aside, with a message: a script that restarts the recorder with a fixed
    name loses neither the old recording nor the new one.

    Raises:
        OutputError: another process records there, or something else exists there.
        OSError: the folder cannot be created.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            out.mkdir()
            break
        except FileExistsError:
            if not out.is_dir() or out.is_symlink():
                raise output_exists_error(out) from None
            with lock_folder(out, out):
                if not _holds_interrupted(out):
                    raise output_exists_error(out) from None
                _move_aside(out)
    try:
        with lock_folder(out, out):
            yield
    finally:
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _holds_interrupted(folder: Path) -> bool:
    files = list(folder.glob("*.mcap"))
    return len(files) == 1 and files[0].is_file() and is_interrupted(files[0])


def _move_aside(folder: Path) -> None:
    size = sum(file.stat().st_size for file in folder.glob("*.mcap"))
    names = (folder.with_name(f"{folder.name}_interrupted_{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    folder.rename(aside)
    read = f"`occle play {shell_quote(aside)}` and `occle run --bag {shell_quote(aside)}` read it"
    print_notice(f"recorder: {folder} held a recording that was interrupted ({size / 1e6:.1f} MB); it is now {aside}: {read}")
