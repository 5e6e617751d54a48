# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Console messages: lines on stderr about a command's input."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

ProgressCallback = Callable[[str], None]
"""Called with one line of text before a step that takes long."""


def print_notice(text: str) -> None:
    """Print a line on stderr; a closed terminal is ignored."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@lru_cache(maxsize=1000)
def print_notice_once(text: str) -> None:
    """`print_notice`, the first time in this process: a run opens its bag several times."""
    print_notice(text)


def one_line(text: object, length: int = 120) -> str:
    """A library's message as one line, to be part of a message."""
    return " ".join(str(text).split())[:length]


def shell_quote(path: Path | str) -> str:
    """A path for a command line that a message shows."""
    return shlex.quote(str(path))
