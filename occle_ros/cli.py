# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Command line `occle`: bags, replay, recording, the node, offline runs, diagnosis and the demo."""

from __future__ import annotations

import typer

from occle_ros.commands.bags import bag, play, record
from occle_ros.commands.node import demo, launch_plan, node, occupancy_node
from occle_ros.commands.predictions import run, view
from occle_ros.commands.sensors import doctor, rig

__all__ = ["app", "main", "occupancy_node"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Live 3D semantic occupancy from cameras and a LiDAR.")  # fmt: skip
app.command()(bag)
app.command()(play)
app.command()(record)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(node)
app.command()(run)
app.command()(rig)
app.command()(demo)
app.command()(view)
app.command()(doctor)
app.command(name="launch-plan", hidden=True)(launch_plan)


@app.command()
def version() -> None:
    """Show the installed versions."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("occle_ros", "torch", "numpy", "rclpy", "rosbags"):
        try:
            typer.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} is not installed as a Python package")


def main() -> None:
    """Console script `occle`."""
    app()


if __name__ == "__main__":
    main()
