# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Headless Chromium without network and display, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")


def browse(page: Path, folder: Path, *arguments: str, fragment: str = "", size: str = "1200,800") -> str:
    """What Chromium prints about a page (`--dump-dom`, `--screenshot=FILE`).

    Args:
        page: an HTML file.
        folder: the browser's profile is made in it.
        arguments: of Chromium.
        fragment: of the address, with its hash.
        size: of the window, width and height.
    """
    flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader", f"--user-data-dir={folder / 'profile'}", f"--window-size={size}"]
    flags += ["--hide-scrollbars", "--virtual-time-budget=10000", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [str(CHROMIUM), *flags, *arguments, f"file://{page}{fragment}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
