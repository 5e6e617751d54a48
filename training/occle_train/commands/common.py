"""Options, paths, configuration files and progress bars of the commands."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import torch
import typer
import yaml
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from occle_core.datasets import Dataset
from occle_core.errors import EngineError
from occle_core.native import library

console = Console()
M = TypeVar("M", bound=BaseModel)


class RigChoice(str, Enum):
    """Sensor rigs."""

    kitti = "kitti"
    nuscenes = "nuscenes"


class Size(str, Enum):
    """Network sizes."""

    tiny = "tiny"
    small = "small"
    base = "base"


def split_names(text: str) -> list[str]:
    """The names in a comma-separated option; none for an empty one."""
    return [name for name in text.split(",") if name]


def describe_dataset(data: Path, datasets: Sequence[Dataset]) -> str:
    """A line that names the sequences found in a data set's folder and counts their frames."""
    kinds = ", ".join(sorted({dataset.kind for dataset in datasets}))
    return f"{data}: {sum(map(len, datasets))} frames of {len(datasets)} sequences ({kinds})"


def resolve_device(name: str) -> str:
    """torch's name of a device; "auto" is a GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def load_kernels(device: str) -> None:
    """Load the compiled kernels for training on a CPU, built the first time; without a compiler PyTorch does the work."""
    if device == "cpu":
        try:
            library.load(lambda text: console.print(text, highlight=False))
        except EngineError as error:
            console.print(f"trains without compiled kernels: {error}", highlight=False)


def user_path(text: str) -> Path:
    """A path from the command line; shells leave a ~ behind an = as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: no home folder is known; write the path out") from error


def path_option(text: str, *names: str) -> Any:
    """An option that takes a path."""
    return typer.Option(*names, help=text, parser=user_path, metavar="PATH")


def read_yaml(file: Path | None) -> dict[str, Any]:
    """A configuration file's values; none without a file.

    Raises:
        ValueError: it is no YAML file of names and values.
    """
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{file} must hold names and values (steps: 4000), not {type(content).__name__}")
    return content or {}


def parse_config(kind: type[M], content: dict[str, Any], file: Path | None) -> M:
    """A configuration of its type.

    Raises:
        ValueError: unknown names or impossible values, in one line.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']} (it is {e['input']!r})" for e in error.errors())
        raise ValueError(f"{file or 'the options'}: {'; '.join(wrong)}") from error


def progress_bar(extra: str = "") -> Progress:
    """A progress bar; `extra` is a further column."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    return Progress(*columns, TextColumn(extra), console=console)


def software_versions() -> dict[str, str]:
    """Revision, date and versions of the software, for a bundle's provenance."""
    return {"revision": _revision(), "date": date.today().isoformat(), "torch": torch.__version__}


def _revision() -> str:
    """Git revision of this code."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"
