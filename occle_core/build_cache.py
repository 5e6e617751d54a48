# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Cache of built engines on disk, keyed by everything that they were built from; entries are written atomically."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from occle_core.console import ProgressCallback
from occle_core.errors import EngineError

MANIFEST = "manifest.json"


def cache_dir() -> Path:
    """$OCCLE_CACHE, or occle's folder in the user's cache.

    Raises:
        EngineError: neither names a folder, and the user has no home.
    """
    if named := os.environ.get("OCCLE_CACHE"):
        return Path(named).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "occle"
    except RuntimeError as error:
        raise EngineError("no home folder is known to keep built engines in; set OCCLE_CACHE to a folder") from error


def cached(key: Mapping[str, str], build: Callable[[Path], None], on_progress: ProgressCallback, root: Path | None = None) -> Path:
    """The folder that `build` fills, built only when it is not there yet.

    An entry carries its key and the hashes of its files; one that does not match (another version's, a damaged file) is
    built anew, never used.

    Args:
        key: what the entry depends on, such as engine, version, device, weights, precision.
        build: writes the entry's files into the folder that it is given.
        on_progress: called with the reason why something is built.
        root: the cache; None means `cache_dir()`.

    Raises:
        EngineError: the cache cannot be written. What `build` raises.
    """
    text = json.dumps(dict(key), sort_keys=True)
    entry = (root or cache_dir()) / "engines" / hashlib.sha256(text.encode()).hexdigest()[:24]
    if os.path.exists(entry):  # False too where the folder may not be entered, which is said below
        wrong = _wrong(entry, key)
        if not wrong:
            return entry
        on_progress(f"{entry} is not used: {wrong}; building it anew")
    fresh = entry.parent / f".building-{secrets.token_hex(6)}"
    try:
        fresh.mkdir(parents=True)
        build(fresh)
        files = {path.name: _digest(path) for path in sorted(fresh.iterdir())}
        (fresh / MANIFEST).write_text(json.dumps({"key": dict(key), "files": files}, indent=1), encoding="utf-8")
        try:
            fresh.rename(entry)
        except OSError:
            # There is one: another process's, which it may be loading by now and so is not touched, or what could not be used.
            if _wrong(entry, key):
                shutil.rmtree(entry, ignore_errors=True)
                fresh.rename(entry)
    except OSError as error:  # of any step: the disk may be full
        raise EngineError(
            f"built engines cannot be kept in {entry.parent} ({error.strerror}); set OCCLE_CACHE to a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return entry


def _wrong(entry: Path, key: Mapping[str, str]) -> str:
    """The reason why an entry cannot be used; empty when it can."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        if manifest["key"] != dict(key):
            return "it was built from something else"
        for name, digest in manifest["files"].items():
            if _digest(entry / name) != digest:
                return f"{name} was changed after it was built"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it is damaged ({error})"
    return ""


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):  # hashlib.file_digest is of Python 3.11
            digest.update(piece)
    return digest.hexdigest()
