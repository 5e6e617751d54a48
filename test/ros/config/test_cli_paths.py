# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""~ in paths, where no shell has replaced it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from node_rig import write_calibration
from typer.testing import CliRunner

from occle_core.bundle import BundleError, find_bundle
from occle_core.paths import expand_home
from occle_ros.calibration.files import find_calibration
from occle_ros.cli import app
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.share_paths import resolve, resolve_bundle


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_the_home_folder(home: Path) -> None:
    assert expand_home("~/x") == home / "x"
    assert expand_home(Path("~")) == home
    assert expand_home("a/~/b") == Path("a/~/b")
    assert expand_home("~nobody_of_this_name/x") == Path("~nobody_of_this_name/x")


def test_every_path_of_the_command_line_takes_it(home: Path) -> None:
    """Also those of commands that are still to come."""
    seen = 0
    for command in app.registered_commands:
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            if get_origin(hint) is Annotated and Path in (get_args(hint)[0], *get_args(get_args(hint)[0])):
                callback = get_args(hint)[1].callback
                assert callback is not None and callback(Path("~/here")) == home / "here", (command.callback, name)
                assert callback(None) is None
                seen += 1
    assert seen >= 14


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--bag=~/nothing", "--out=~/out"], "there is no bag at {home}/nothing"),
        (["run", "--dataset", "~/nothing", "--out", "~/out"], "{home}/nothing does not exist"),
        (["play", "~/nothing"], "there is no bag or data set at {home}/nothing"),
    ],
)
def test_messages_name_the_real_path(home: Path, words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and message.format(home=home) in result.stderr, result.output


def test_path_parameters_take_it(home: Path) -> None:
    write_calibration(home / "calibration.yaml")
    assert list(find_calibration("~/calibration.yaml").cameras) == ["cam2"]
    assert resolve("~/calibration.yaml", "x") == home / "calibration.yaml"
    with pytest.raises(ConfigError, match="there is no '~nobody_of_this_name/x'"):
        resolve("~nobody_of_this_name/x", "parameter bundle")


def test_bundles_are_found_by_name_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name comes first, as in a shell."""
    monkeypatch.chdir(tmp_path)
    shipped = Path(__file__).resolve().parents[3] / "config" / "bundles"
    for name in sorted(folder.name for folder in shipped.iterdir()):
        assert resolve_bundle(name, "--bundle") == find_bundle(name) == shipped / name
        assert resolve_bundle(f"config/bundles/{name}", "--bundle") == shipped / name
        assert NodeConfig(bundle=name).bundle_dir() == shipped / name
    (tmp_path / "kitti").mkdir()
    assert resolve_bundle("kitti", "--bundle") == tmp_path / "kitti"
    message = "there is no 'kity' in .*, and no shipped bundle of that name; shipped are kitti, kitti_occle, nuscenes"
    with pytest.raises(ConfigError, match=f"--bundle: {message}"):
        resolve_bundle("kity", "--bundle")
    with pytest.raises(BundleError, match=message):
        find_bundle("kity")
