# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle rig` and `doctor`: the description of the sensors, and the check of their topics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from occle_core.paths import expand_home
from occle_ros.commands.common import path_option, progress, report_errors, usage_error


def rig(
    paths: Annotated[list[str], typer.Argument(metavar="BAG | check RIG BAG", help="recording; or check, rig file and recording")],
    out: Annotated[
        Path | None, path_option("-o", "--out", help="rig file to write (rig.yaml), or folder of the check (rig_check)")
    ] = None,
    force: Annotated[bool, typer.Option(help="replace the rig file")] = False,
) -> None:
    """Draft a rig file from a recording, or check one against a recording.

    Examples: occle rig out/bag -o rig.yaml            occle rig check rig.yaml out/bag
    """
    with report_errors():
        from occle_core.rig_drafting.report import check, draft

        is_check = paths[0] == "check"
        if len(paths) != (3 if is_check else 1):
            usage_error("give one recording, or `check RIG BAG`")
        if is_check:
            with progress("reading") as on_progress:
                lines, is_good = check(expand_home(paths[1]), expand_home(paths[2]), out or Path("rig_check"), on_progress)
        else:
            lines, is_good = draft(expand_home(paths[0]), out or Path("rig.yaml"), force), True
        for line in lines:
            typer.echo(line)
    if not is_good:
        raise typer.Exit(1)


def doctor(
    topics: Annotated[
        list[str] | None, typer.Option(help="topic to check (repeatable); default: all inputs of the configuration")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="duration of the check")] = 5.0,
    config: Annotated[Path | None, path_option(help="parameter file of the node; default: the KITTI preset")] = None,
    rig: Annotated[Path | None, path_option(help="rig.yaml of the sensors")] = None,
    namespace: Annotated[str, typer.Option(help="namespace of the node")] = "",
) -> None:
    """Check the sensor topics and report every problem with its remedy; exit code 1 if there are any.

    Examples: occle doctor --config config/nuscenes.yaml            occle doctor --topics /velodyne_points --seconds 3
    """
    with report_errors(needs_ros=True):
        from occle_ros.config.loading import load_config
        from occle_ros.tools.doctor import diagnose
        from occle_ros.tools.doctor_report import print_diagnosis

        found = diagnose(load_config(config, rig), seconds, topics or (), namespace)
        print_diagnosis(found, Console())
    if found.problems:
        raise typer.Exit(1)
