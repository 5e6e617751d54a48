# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the tests of all folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from occle_core.datasets import files

# A loaded machine must not fail a test for the time that one example took.
settings.register_profile("occle", deadline=None)
settings.load_profile("occle")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sensor data (environment variable OCCLE_DATA, else ../shared/data); skips where it is absent."""
    folder = Path(os.environ.get("OCCLE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real sensor data at {folder}; set OCCLE_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    """What is logged once a process is logged once a test."""
    files.warn_once.cache_clear()
