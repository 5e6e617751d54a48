# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from occle_core import paths


def test_share_files_are_found_installed_too(monkeypatch, tmp_path):
    assert paths.share_file("config/fastdds_shm.xml") == Path(__file__).resolve().parents[2] / "config/fastdds_shm.xml"
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "occle_core" / "paths.py"))
    with pytest.raises(FileNotFoundError, match=r"config/nothing.yaml of occle_ros is not installed; searched"):
        paths.share_file("config/nothing.yaml")
    installed = tmp_path / "install" / "share" / "occle_ros" / "config" / "nothing.yaml"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/somewhere/else{os.pathsep}{tmp_path / 'install'}")
    assert paths.share_file("config/nothing.yaml") == installed
