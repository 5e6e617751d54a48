# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle node`, `demo` and `launch-plan`: the live node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from occle_ros.commands.common import path_option, report_errors, usage_error


def node(context: typer.Context) -> None:
    """Run the occupancy node; accepts ROS arguments.

    Example: occle node --ros-args --params-file config/kitti.yaml -p calibration_file:=out/bag_08/calibration.yaml
    """
    raise typer.Exit(occupancy_node(["occle", *context.args]))


def demo(
    data: Annotated[Path | None, path_option(help="SemanticKITTI, KITTI or nuScenes folder; default: a simulated drive")] = None,
    out: Annotated[Path, path_option(help="folder of the results")] = Path("out/demo"),
    scene: Annotated[str | None, typer.Option(help="sequence or scene of --data; default: the first")] = None,
    bundle: Annotated[
        Path | None, path_option(help="folder of the network, or a shipped one's name; default: the preset's")
    ] = None,
    rate: Annotated[str, typer.Option(help="frames per second, or auto: the rate that this machine sustains, at most 10")] = "auto",
    frames: Annotated[int, typer.Option(min=2, help="frames of the simulated drive, or maximum number of frames of --data")] = 100,
    pictures: Annotated[int, typer.Option(min=0, help="number of frames to draw pictures of")] = 4,
) -> None:
    """Replay a drive through the live node and report rate, latency and losses.

    Examples: occle demo            occle demo --data dataset/sequences/08
    """
    try:
        wanted = None if rate == "auto" else float(rate)
    except ValueError:
        usage_error(f"--rate must be auto or a number, not {rate!r}")
    if wanted is not None and not wanted > 0:
        usage_error("--rate must be positive")
    with report_errors(needs_ros=True):
        from occle_ros.tools.demo import run_demo

        run_demo(data, out, scene, bundle, wanted, frames, pictures)


def launch_plan(arguments: Annotated[str, typer.Argument(help="launch arguments as a JSON object")]) -> None:
    """Print the plan of occupancy.launch.py as JSON: the launch file runs in a Python without the node's packages."""
    with report_errors():
        import json
        from dataclasses import asdict

        from occle_core.paths import share_file
        from occle_ros.tools.launch_arguments import plan_launch

        plan = plan_launch(json.loads(arguments), share_file("config").parent)
        typer.echo(json.dumps(asdict(plan) | {"config": str(plan.config)}))


def occupancy_node(arguments: list[str] | None = None) -> int:
    """Console script `occupancy_node`, for launch files."""
    from occle_ros.system.environment import TransportError, check_middleware

    try:
        check_middleware()
    except TransportError as error:
        print(f"occupancy node: {error}", file=sys.stderr, flush=True)
        return 1
    from occle_ros.node.process import main as run_node

    return run_node(arguments or sys.argv)
