"""What the commands share."""

from __future__ import annotations

import subprocess
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console()


class Rig(str, Enum):
    """Sensor rigs."""

    kitti = "kitti"
    nuscenes = "nuscenes"


class Size(str, Enum):
    """Network sizes."""

    tiny = "tiny"
    small = "small"
    base = "base"


def names(text: str) -> list[str]:
    """What a comma-separated option names; empty for an empty one."""
    return [name for name in text.split(",") if name]


def device_of(name: str) -> str:
    """torch's name of a device; "auto" is a GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def read_yaml(file: Path | None) -> dict[str, Any]:
    """A configuration file's values; none without a file."""
    import yaml

    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file else {}


def progress(extra: str = "") -> Progress:
    """A progress bar; `extra` is a further column."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    return Progress(*columns, TextColumn(extra), console=console)


def origin() -> dict[str, str]:
    """What a bundle's provenance says about the software that trained it."""
    return {"revision": _revision(), "date": date.today().isoformat(), "torch": torch.__version__}


def _revision() -> str:
    """Git revision of this code."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"
