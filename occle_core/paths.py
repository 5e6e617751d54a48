# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Paths: ~ as the home folder, and shipped files (config, launch, bundles) in a checkout or an installation."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

PACKAGE = "occle_ros"


def expand_home(path: str | Path) -> Path:
    """A path with ~ and ~user replaced by the home folder; a ~ of nobody's stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def share_file(relative: str) -> Path:
    """Path of a shipped file, such as "config/kitti.yaml".

    Looked up in the checkout, then in `share/occle_ros` of every AMENT_PREFIX_PATH entry, of this Python environment, of the
    folder that holds the packages (`pip install --target`) and of the installed distribution.

    Raises:
        FileNotFoundError: not found; the message lists the searched places.
    """
    candidates = [folder / relative for folder in _share_folders()]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = "\n  ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(f"{relative} of {PACKAGE} is not installed; searched\n  {places}\nInstall it again: `pip install .`")


def bundle_folder(name: str | Path) -> Path:
    """Folder of a bundle: a path, or the name of a shipped one, such as "kitti".

    Raises:
        FileNotFoundError: a name that is neither a folder here nor a shipped bundle's; the message lists those.
    """
    path = expand_home(name)
    if path.exists() or len(path.parts) != 1:
        return path
    shipped = share_file("config/bundles")
    names = sorted(folder.name for folder in shipped.iterdir() if folder.is_dir())
    if str(name) not in names:
        raise FileNotFoundError(
            f"there is no {str(name)!r} in {Path.cwd()}, and no shipped bundle of that name; shipped are {', '.join(names)}"
        )
    return shipped / name


def _share_folders() -> list[Path]:
    packages = Path(__file__).resolve().parents[1]
    folders = [packages] if (packages / "package.xml").exists() or (packages / "pyproject.toml").exists() else []
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    folders += [prefix / "share" / PACKAGE for prefix in [*prefixes, Path(sys.prefix), packages]]
    return folders + _distribution_folders()


def _distribution_folders() -> list[Path]:
    """share/occle_ros by the file list of the installed distribution (user installs are outside sys.prefix)."""
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return []
    share = f"share/{PACKAGE}/"
    roots = {file.as_posix().partition(share)[0] for file in distribution.files or () if share in file.as_posix()}
    return [Path(str(distribution.locate_file(root + share))).resolve() for root in sorted(roots)]
