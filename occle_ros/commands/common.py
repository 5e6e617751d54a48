# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Options, error messages and progress bars of the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from occle_core.errors import OccleError
from occle_core.paths import expand_home

errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def _expanded(path: Path | None) -> Path | None:
    """Replace ~ in the value of an option, where the shell does not (--bag=~/x)."""
    return path and expand_home(path)


path_option = partial(typer.Option, callback=_expanded)
path_argument = partial(typer.Argument, callback=_expanded)


@contextmanager
def report_errors(needs_ros: bool = False) -> Iterator[None]:
    """Report user errors as one message on stderr with exit code 1; other exceptions keep their traceback.

    Args:
        needs_ros: the command communicates with other processes and needs the middleware of RMW_IMPLEMENTATION.
    """
    from occle_ros.system.environment import TransportError, check_middleware, ignore_missing_middleware

    try:
        if needs_ros:
            check_middleware()
        else:
            ignore_missing_middleware()
        yield
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None
    except EOFError as error:  # typer would print "Aborted." only
        raise RuntimeError("a file or stream ended too early") from error
    except (OccleError, TransportError, OSError) as error:
        errors.print(f"error: {error}", style="bold red" if errors.is_terminal else None)
        raise typer.Exit(1) from error


def usage_error(text: str) -> NoReturn:
    """End with a message on stderr and exit code 2."""
    errors.print(f"usage: {text}; see `occle {sys.argv[1] if len(sys.argv) > 1 else ''} --help`")
    raise typer.Exit(2)


@contextmanager
def progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr while the body runs, which calls the given function with (done, total)."""
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_progress
