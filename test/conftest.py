"""What the tests of all folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sensor data (environment variable OCCLE_DATA, else ../shared/data); skips where it is absent."""
    folder = Path(os.environ.get("OCCLE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real sensor data at {folder}; set OCCLE_DATA to its folder")
    return folder
