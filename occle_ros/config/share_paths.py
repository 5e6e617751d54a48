# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Resolution of paths in parameters: absolute, relative to the working directory, or in share/occle_ros."""

from __future__ import annotations

from pathlib import Path

from occle_core.paths import bundle_folder, expand_home, share_file
from occle_ros.config.parameter_group import ConfigError


def resolve(path: str, option: str) -> Path:
    """Absolute path of a file or folder. `option` names the parameter in the error message.

    Raises:
        ConfigError: no such file or folder.
    """
    given = expand_home(path)
    if given.exists():
        return given.resolve()
    try:
        if not given.is_absolute():
            return share_file(path)
    except FileNotFoundError:
        pass
    raise ConfigError(f"{option}: there is no {path!r}, neither from {Path.cwd()} nor in share/occle_ros")


def resolve_bundle(bundle: str, option: str) -> Path:
    """Absolute path of a bundle: its folder, as `resolve`, or the name of a shipped one. `option` names the parameter in the error.

    Raises:
        ConfigError: no such folder, and no shipped bundle of that name.
    """
    try:
        return resolve(str(bundle_folder(bundle)), option)
    except FileNotFoundError as error:
        raise ConfigError(f"{option}: {error}") from error
