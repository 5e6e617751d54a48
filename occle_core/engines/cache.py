"""Built engines on disk: found again only when everything that they were built from is the same, and never half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

MANIFEST = "manifest.json"


def cache_dir() -> Path:
    """$OCCLE_CACHE, or occle's folder in the user's cache."""
    named = os.environ.get("OCCLE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "occle"


def cached(
    key: Mapping[str, str], build: Callable[[Path], None], progress: Callable[[str], None], root: Path | None = None
) -> Path:
    """The folder that `build` fills, built only when it is not there yet.

    An entry carries its key and the hashes of its files; one that does not match (another version's, a damaged file) is
    built anew, never used.

    Args:
        key: what the entry depends on, such as engine, version, device, weights, precision.
        build: writes the entry's files into the folder that it is given.
        progress: told why something is built.
        root: the cache; None means `cache_dir()`.
    """
    text = json.dumps(dict(key), sort_keys=True)
    entry = (root or cache_dir()) / "engines" / hashlib.sha256(text.encode()).hexdigest()[:24]
    if entry.exists():
        wrong = _wrong(entry, key)
        if not wrong:
            return entry
        progress(f"{entry} is not used: {wrong}; building it anew")
    entry.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".building-", dir=entry.parent))
    try:
        build(fresh)
        files = {path.name: _digest(path) for path in sorted(fresh.iterdir())}
        (fresh / MANIFEST).write_text(json.dumps({"key": dict(key), "files": files}, indent=1), encoding="utf-8")
        shutil.rmtree(entry, ignore_errors=True)
        try:
            fresh.rename(entry)
        except OSError:
            # Another process finished the same entry first.
            if _wrong(entry, key):
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return entry


def _wrong(entry: Path, key: Mapping[str, str]) -> str:
    """What is wrong with an entry; empty when it can be used."""
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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
