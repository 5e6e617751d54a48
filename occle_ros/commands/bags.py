# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle bag`, `play` and `record`: bags written, published and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_ros.commands.common import path_argument, path_option, report_errors, usage_error
from occle_ros.config.names import DatasetKind


def bag(
    kind: Annotated[DatasetKind, typer.Argument(help="layout of the data set")],
    path: Annotated[Path, path_argument(help="folder of the data set or of one sequence")],
    out: Annotated[Path, path_argument(help="bag folder to create")],
    scene: Annotated[str | None, typer.Option(help="name of the sequence or scene, if there are several")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of frames")] = None,
    compressed: Annotated[
        bool | None,
        typer.Option("--compressed/--raw", help="images as JPEG or PNG, or decoded; default: compressed for JPEG, raw for PNG"),
    ] = None,
) -> None:
    """Write a data set as a ROS 2 bag (mcap).

    Example: occle bag semantickitti dataset/sequences/08 out/bag_08
    """
    with report_errors():
        from occle_ros.bags.converter import convert

        summary = convert(kind, path, out, compressed, limit, scene)
        typer.echo(f"{summary.path}: {summary.frames} frames, {summary.duration:.1f} s")
        for topic, count in summary.messages.items():
            typer.echo(f"{count:6d}  {topic}")
        for note in summary.notes:
            typer.echo(f"note: {note}")


def play(
    path: Annotated[Path, path_argument(help="bag folder, mcap or db3 file, or data set folder")],
    rate: Annotated[float, typer.Option(min=0.01, help="speed; 2 plays twice as fast")] = 1.0,
    loop: Annotated[bool, typer.Option(help="start again at the end")] = False,
    clock: Annotated[float, typer.Option(min=0, help="rate of /clock, Hz; 0: none")] = 100.0,
    wait_for: Annotated[list[str] | None, typer.Option(help="wait until this topic has a subscriber (repeatable)")] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="timeout for --wait-for")] = 15.0,
    best_effort: Annotated[bool, typer.Option(help="publish clouds and images best effort instead of reliable")] = False,
    namespace: Annotated[str, typer.Option(help="namespace of all topics, /clock and /tf among them")] = "",
    report: Annotated[Path | None, path_option(help="JSON file for the counts of published messages")] = None,
    kind: Annotated[DatasetKind | None, typer.Option(help="layout of the data set; default: detected")] = None,
    scene: Annotated[str | None, typer.Option(help="sequence or scene of the data set; default: the first")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of frames of the data set")] = None,
    compressed: Annotated[
        bool | None, typer.Option("--compressed/--raw", help="images of the data set; default: as on disk")
    ] = None,
) -> None:
    """Publish the messages of a bag or a data set at their recorded times, without a ROS installation.

    Examples: occle play out/bag_08 --rate 0.5 --loop            occle play dataset --kind semantickitti --scene 08
    """
    with report_errors(needs_ros=True):
        from dataclasses import asdict

        from occle_core.atomic_file import write_json
        from occle_ros.bags.dataset_player import is_dataset, play_dataset
        from occle_ros.bags.player import PlayOptions, play_bag

        options = PlayOptions(rate, loop, clock, tuple(wait_for or ()), wait_seconds, best_effort, namespace=namespace)
        if kind or is_dataset(path):
            summary = play_dataset(path, options, kind, scene, compressed, limit)
        elif scene or limit or compressed is not None:
            usage_error(f"--scene, --limit, --compressed and --raw are for data sets, and {path} is a bag")
        else:
            summary = play_bag(path, options)
        if report:
            write_json(report, asdict(summary))


def record(
    out: Annotated[Path, path_argument(help="bag folder to create")],
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC[=TYPE]...", help="TYPE defaults to the type in the ROS graph")],
    best_effort: Annotated[bool, typer.Option(help="subscribe best effort; default: adapt to the publishers")] = False,
    idle_timeout: Annotated[float | None, typer.Option(min=0.1, help="stop after this many seconds without a message")] = None,
) -> None:
    """Record topics into a bag until Ctrl-C.

    Example: occle record out/recording /occupancy/voxels=sensor_msgs/msg/PointCloud2
    """
    with report_errors(needs_ros=True):
        from occle_core.console import print_notice
        from occle_ros.bags.recorder import record as record_topics

        named = {name: kind or None for name, _, kind in (topic.partition("=") for topic in topics)}
        for line in record_topics(named, out, idle_timeout=idle_timeout, best_effort=best_effort).lines():
            print_notice(line)
