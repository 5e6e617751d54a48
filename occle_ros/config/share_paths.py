"""Paths in parameters: absolute, relative to the working directory, or shipped with the package."""

from __future__ import annotations

from pathlib import Path

from occle_core.paths import expand_home
from occle_ros.config.groups import (
    ConfigError,
)
from occle_ros.system.share_files import share_file


def resolve(path: str, asked_by: str) -> Path:
    """A file or folder: absolute, relative to the working directory, or in share/occle_ros. `asked_by` is for the message.

    Raises:
        ConfigError: there is nothing of that name.
    """
    given = expand_home(path)
    if given.exists():
        return given.resolve()
    try:
        if not given.is_absolute():
            return share_file(path)
    except FileNotFoundError:
        pass
    raise ConfigError(f"{asked_by}: there is no {path!r}, neither from {Path.cwd()} nor in share/occle_ros")
