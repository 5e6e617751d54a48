# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the tests of all folders share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """made_once(name, make) -> the folder that make(folder) fills; of pytest's workers the first makes it. Nobody changes it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    shared.mkdir(exist_ok=True)

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def simulated(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[[str], Path]:
    """simulated("kitti" or "nuscenes") -> a data set of one drive of two frames with small images, which nobody changes."""

    def data(rig: str) -> Path:
        from occle_train.streets import simulate

        return made_once(f"streets_{rig}", lambda folder: simulate(folder, rig, drives=1, frames=2, seed=5, scale=0.1, workers=1))

    return data


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    """What is logged once a process is logged once a test."""
    files.warn_once.cache_clear()
