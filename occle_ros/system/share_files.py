# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Lookup of shipped files; see `occle_core.paths`."""

from __future__ import annotations

from occle_core.paths import share_file

__all__ = ["share_file"]
