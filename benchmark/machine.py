# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The machine in a line, for the head of a table of figures, and data to measure on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from occle_train.streets import simulate

from occle_core.datasets import Dataset, open_dataset
from occle_core.native.build import supported

PACKAGES = ("torch", "openvino", "onnxruntime", "numpy", "spconv", "MinkowskiEngine")


def machine(threads: int | None = None) -> str:
    """Date, processor with its best instructions, GPU and versions in a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    used = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    processor = f"{names[0] if names else platform.machine()} ({supported()[0]})"
    return f"{date.today()}, {processor}, {len(names) or '?'} cores{used}{gpu}; {packages}"


def real_data() -> Path:
    """The folder of real sensor data: environment variable OCCLE_DATA, else ../shared/data."""
    return Path(os.environ.get("OCCLE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def drive(folder: Path, rig: str, frames: int, on_progress: Callable[[str], None] = print) -> Dataset:
    """A simulated drive at full resolution, made once."""
    if not folder.is_dir():
        on_progress(f"simulating {frames} frames of the {rig} rig into {folder}")
        simulate(folder, rig, drives=1, frames=frames, seed=7, workers=2)
    return open_dataset(folder)


def spread(values: list[float]) -> tuple[float, float, float]:
    """p50, p95, p99."""
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return float(p50), float(p95), float(p99)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # built in place and only on the path, as docs/how_to/minkowski.md allows
        return "present" if find_spec(package) else "absent"
