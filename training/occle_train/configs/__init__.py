# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The papers' training configurations, which `--config` finds by name: `minkocc_10`, `occle_nuscenes`."""

from __future__ import annotations

from pathlib import Path


def config_names() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.yaml"))


def find_config(name: str) -> Path:
    """The file of a configuration: a path, or the name of a shipped one.

    Raises:
        ValueError: there is neither.
    """
    file, shipped = Path(name).expanduser(), Path(__file__).parent / f"{name}.yaml"
    if file.is_file():
        return file
    if name in config_names():
        return shipped
    raise ValueError(f"--config {name}: no such file, and no shipped configuration; there are {', '.join(config_names())}")
