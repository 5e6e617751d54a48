"""Lookup of shipped files; see `occle_core.share_files`."""

from __future__ import annotations

from occle_core.share_files import share_file

__all__ = ["share_file"]
