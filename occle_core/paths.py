"""Expansion of ~ in paths."""

from __future__ import annotations

from pathlib import Path


def expand_home(path: str | Path) -> Path:
    """A path with ~ and ~user replaced by the home folder; a ~ of nobody's stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
