# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A bag of four frames, and copies of it to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bag_files import STAMPS
from node_rig import write_bag

from occle_core import console


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of four frames."""
    return write_bag(tmp_path_factory.mktemp("drive") / "drive", STAMPS)


@pytest.fixture
def bag(drive: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    console.print_notice_once.cache_clear()
    return Path(shutil.copytree(drive, tmp_path / "drive"))
