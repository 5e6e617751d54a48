# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Stand-ins for `launch`, where it is not installed: classes that keep their arguments."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from forked_python import run_python

from occle_ros import tools

ROOT = Path(__file__).resolve().parents[3]
SUPPORT = "occle_ros.tools.launch_support"


class Kept:
    """Keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class Configuration(Kept):
    """LaunchConfiguration over a plain dict as context."""

    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


def run_forked(command: Sequence[str], env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
    """subprocess.run of the `occle` executable, which is a script of Python."""
    return run_python(command, environment=env)


def forget_support() -> None:
    """Import launch_support anew the next time."""
    sys.modules.pop(SUPPORT, None)
    if hasattr(tools, "launch_support"):
        del tools.launch_support


def load_launch_files(names: Sequence[str], monkeypatch: pytest.MonkeyPatch, prefix: Path) -> dict[str, Any]:
    """Launch files as modules, with stand-ins for launch, launch_ros and the package index, in which RViz is installed.

    Args:
        names: of the launch files.
        monkeypatch: of the test that the stand-ins are for.
        prefix: folder of the installation, to be made.
    """

    def module(name: str, **members: Any) -> None:
        fake = types.ModuleType(name)
        fake.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, fake)

    class PackageNotFoundError(KeyError):
        """As ament_index_python's."""

    def prefix_of(name: str) -> str:
        if name not in ("occle_ros", "rviz2"):
            raise PackageNotFoundError(name)
        return str(prefix)

    actions = ("DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "OpaqueFunction", "RegisterEventHandler")
    module("launch", LaunchContext=dict, LaunchDescription=list)
    module("launch.actions", **{name: type(name, (Kept,), {}) for name in actions})
    module("launch.event_handlers", OnProcessExit=type("OnProcessExit", (Kept,), {}))
    module("launch.events", Shutdown=type("Shutdown", (Kept,), {}))
    module("launch.substitutions", LaunchConfiguration=Configuration)
    module("launch_ros")
    module("launch_ros.actions", Node=type("Node", (Kept,), {}))
    module("launch_ros.parameter_descriptions", ParameterValue=Kept)
    module("ament_index_python")
    module(
        "ament_index_python.packages",
        get_package_share_directory=lambda name: str(ROOT),
        get_package_prefix=prefix_of,
        PackageNotFoundError=PackageNotFoundError,
    )
    occle = prefix / "lib/occle_ros/occle"
    occle.parent.mkdir(parents=True)
    occle.write_text(f"#!{sys.executable}\nfrom occle_ros.cli import main\nmain()\n")
    occle.chmod(0o755)
    forget_support()
    loaded = {}
    for name in names:
        specification = importlib.util.spec_from_file_location(f"{name}_launch", ROOT / "launch" / f"{name}.launch.py")
        assert specification and specification.loader
        loaded[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(loaded[name])
        monkeypatch.setattr(loaded[name].support, "subprocess", types.SimpleNamespace(run=run_forked))
    forget_support()  # the one with stand-ins must not outlive this test
    return loaded
