# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Run folders `runs/NAME-NNN`: options, resolved configuration and environment of a training in run.yaml."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BeforeValidator, Field, ValidationError

from occle_core.atomic_file import atomic_write
from occle_core.config import Config
from occle_core.networks.protocol import RigName, Size
from occle_core.taxonomy import TaxonomyConfig
from occle_train.loop.checkpoints import CHECKPOINT

RUNS = Path("runs")
RUN_FILE, LAST, BEST, CURVE, REPORT, SCORES = "run.yaml", "last", "best", "curve.png", "report.html", "scores.json"
PACKAGES = ("occle_ros", "torch", "numpy", "opencv-python-headless", "pydantic", "safetensors")


def _several(data: Any) -> Any:
    """One path, as run.yaml had it before there could be several, or paths; None for none."""
    return (data,) if isinstance(data, (str, Path)) else tuple(data or ()) or None


class RunOptions(Config):
    """Options of a training, as they were given; what is None was left to its default."""

    data: Annotated[tuple[Path, ...] | None, BeforeValidator(_several)] = None
    sequences: str | None = None
    labels: Path | None = None
    targets: Path | None = None
    simulated: Path | None = None
    simulated_sequences: str | None = None
    rig: RigName | None = None
    rig_file: Path | None = None
    size: Size | None = None
    classes: TaxonomyConfig | None = None
    finer: int | None = None
    sweeps: int | None = None
    start_from: str | None = None
    image_weights: Path | None = None
    validation: Path | None = None
    validation_sequences: str | None = None
    validate_every: int | None = None
    validation_frames: int | None = None
    bundle: Path | None = None
    device: str | None = None
    threads: int | None = None
    processes: int | None = None

    def updated(self, other: RunOptions) -> RunOptions:
        """These options with those that another gives."""
        return self.model_copy(update={name: value for name, value in other if value is not None})


class RunRecord(Config):
    """The contents of run.yaml."""

    command: Literal["fit", "fit-occle", "adapt"]
    options: RunOptions
    settings: dict[str, Any] = Field(description="resolved configuration: all values, defaults too")
    environment: dict[str, Any]


@contextmanager
def new_run_folder(name: str, out: Path | None) -> Iterator[Path]:
    """A folder for a new run: `out`, or the next `runs/NAME-NNN`. One that is still empty is removed after an error.

    Raises:
        ValueError: `out` holds a run already.
    """
    if out is not None:
        if is_run(out):
            raise ValueError(f"{out} holds a run already; resume it with --resume {out}, or give another --out")
        out.mkdir(parents=True, exist_ok=True)
        folder = out
    else:
        folder = _next_folder(name)
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


def is_run(folder: Path) -> bool:
    """True if a folder holds a run."""
    return (folder / RUN_FILE).exists() or (folder / CHECKPOINT).exists() or any(folder.glob(f"*/{CHECKPOINT}"))


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.yaml."""
    with atomic_write(folder / RUN_FILE) as temporary:
        temporary.write_text(yaml.safe_dump(record.model_dump(mode="json"), sort_keys=False, allow_unicode=True), "utf-8")


def read_record(folder: Path) -> RunRecord:
    """What run.yaml says.

    Raises:
        ValueError: the folder holds no run, or its run.yaml cannot be read.
    """
    file = folder / RUN_FILE
    if not file.is_file():
        raise ValueError(f"{folder} is no run: it has no {RUN_FILE}; occle-train list shows the runs")
    try:
        return RunRecord.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from error


def find_runs(root: Path) -> list[Path]:
    """Folders of runs below `root`, by name."""
    return sorted(file.parent for file in root.glob(f"*/{RUN_FILE}"))


def environment() -> dict[str, Any]:
    """Date, command line, machine, versions and git revision, so that a run can be repeated."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "revision": git_revision(),
        "packages": versions,
    }


def git_revision() -> str:
    """Git revision of this code, "-dirty" with changes that are not committed; "unknown" outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:  # git is not installed
        return "unknown"
    return found.stdout.strip() or "unknown"


def _next_folder(name: str) -> Path:
    numbers = [int(found[1]) for file in RUNS.glob(f"{name}-*") if (found := re.fullmatch(r".*-(\d{3,})", file.name))]
    number = max(numbers, default=0)
    while True:
        number += 1
        folder = RUNS / f"{name}-{number:03d}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # another run began at this moment
            continue
