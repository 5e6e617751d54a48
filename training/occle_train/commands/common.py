# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Paths, names and progress bars of the commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from occle_core.datasets import Dataset
from occle_train.commands.progress import LineProgress

console = Console()


def say(text: str) -> None:
    """A line of text as it is: no colours of numbers, no line breaks."""
    console.print(text, highlight=False, soft_wrap=True)


def split_names(text: str) -> list[str]:
    """The names in a comma-separated option; none for an empty one."""
    return [name for name in text.split(",") if name]


def describe_dataset(data: Path, datasets: Sequence[Dataset]) -> str:
    """A line that names the sequences found in a data set's folder and counts their frames."""
    kinds = ", ".join(sorted({dataset.kind for dataset in datasets}))
    return f"{data}: {sum(map(len, datasets))} frames of {len(datasets)} sequences ({kinds})"


def user_path(text: str) -> Path:
    """A path from the command line; shells leave a ~ behind an = as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: no home folder is known; write the path out") from error


def path_option(text: str, *names: str) -> Any:
    """An option that takes a path."""
    return typer.Option(*names, help=text, parser=user_path, metavar="PATH")


def progress_bar() -> Progress:
    """A progress bar on a terminal; in a pipe or a log file, a line every so often."""
    if not console.is_terminal:
        return LineProgress(console)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    return Progress(*columns, console=console)
