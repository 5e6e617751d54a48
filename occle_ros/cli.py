# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Command line `occle`: bags, replay, recording, the node, offline runs, diagnosis and the demo."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from occle_core.paths import expand_home
from occle_ros.config.names import DatasetKind, EngineName

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Live 3D semantic occupancy from cameras and a LiDAR.")  # fmt: skip
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def _expanded(path: Path | None) -> Path | None:
    """Replace ~ in the value of an option, where the shell does not (--bag=~/x)."""
    return path and expand_home(path)


_path_option = partial(typer.Option, callback=_expanded)
_path_argument = partial(typer.Argument, callback=_expanded)


@app.command()
def bag(
    kind: Annotated[DatasetKind, typer.Argument(help="layout of the data set")],
    path: Annotated[Path, _path_argument(help="folder of the data set or of one sequence")],
    out: Annotated[Path, _path_argument(help="bag folder to create")],
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


@app.command()
def play(
    path: Annotated[Path, _path_argument(help="bag folder, mcap or db3 file, or data set folder")],
    rate: Annotated[float, typer.Option(min=0.01, help="speed; 2 plays twice as fast")] = 1.0,
    loop: Annotated[bool, typer.Option(help="start again at the end")] = False,
    clock: Annotated[float, typer.Option(min=0, help="rate of /clock, Hz; 0: none")] = 100.0,
    wait_for: Annotated[list[str] | None, typer.Option(help="wait until this topic has a subscriber (repeatable)")] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="timeout for --wait-for")] = 15.0,
    best_effort: Annotated[bool, typer.Option(help="publish clouds and images best effort instead of reliable")] = False,
    namespace: Annotated[str, typer.Option(help="namespace of all topics, /clock and /tf among them")] = "",
    report: Annotated[Path | None, _path_option(help="JSON file for the counts of published messages")] = None,
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
            _usage(f"--scene, --limit, --compressed and --raw are for data sets, and {path} is a bag")
        else:
            summary = play_bag(path, options)
        if report:
            write_json(report, asdict(summary))


@app.command()
def record(
    out: Annotated[Path, _path_argument(help="bag folder to create")],
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


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def node(context: typer.Context) -> None:
    """Run the occupancy node; accepts ROS arguments.

    Example: occle node --ros-args --params-file config/kitti.yaml -p calibration_file:=out/bag_08/calibration.yaml
    """
    raise typer.Exit(occupancy_node(["occle", *context.args]))


@app.command()
def run(
    out: Annotated[Path, _path_option(help="folder to create")],
    bundle: Annotated[Path | None, _path_option(help="folder of the network; default: the preset's")] = None,
    bag_path: Annotated[Path | None, _path_option("--bag", help="bag to read")] = None,
    dataset: Annotated[Path | None, _path_option(help="data set to read")] = None,
    kind: Annotated[DatasetKind | None, typer.Option(help="layout of the data set; default: detected")] = None,
    scene: Annotated[str | None, typer.Option(help="sequence or scene of the data set")] = None,
    config: Annotated[Path | None, _path_option(help="parameter file of the node, for bags with other topic names")] = None,
    rig: Annotated[Path | None, _path_option(help="rig.yaml of the bag's sensors")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of frames")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="number of frames to draw pictures of")] = 3,
    engine: Annotated[EngineName, typer.Option(help="inference engine")] = "auto",
) -> None:
    """Predict every frame of a bag or a data set, without dropping any.

    Example: occle run --bag out/bag_08 --bundle config/bundles/kitti --out out/run_08
    """
    if (bag_path is None) == (dataset is None):
        _usage("give either --bag or --dataset")
    if bag_path is not None and (kind or scene):
        _usage("--kind and --scene are for --dataset")
    if dataset is not None and (config or rig):
        _usage("--config and --rig are for --bag")
    with report_errors(), _progress("predicting") as on_progress:
        from occle_ros.config.loading import load_config
        from occle_ros.config.share_paths import resolve
        from occle_ros.tools.demo_inputs import bundle_for
        from occle_ros.tools.offline_run import run_bag, run_dataset
        from occle_ros.tools.run_report import report_lines

        given = load_config(config, rig) if config or rig else None
        chosen = resolve(str(bundle), "--bundle") if bundle else bundle_for(bag_path, dataset, kind, scene, given)
        if bag_path is not None:
            summary = run_bag(bag_path, chosen, out, given, limit, pictures, on_progress, engine)
        else:
            assert dataset is not None
            summary = run_dataset(dataset, chosen, out, kind, scene, limit, pictures, on_progress, engine)
    for line in report_lines(summary):
        typer.echo(line)
    for note in summary.notes:
        errors.print(f"note: {note}")
    for failure in summary.failed:
        errors.print(f"failed: {failure}")
    if not summary.frames:
        errors.print(f"error: no frame was predicted; see {out / 'summary.json'}")
    if summary.failed or not summary.frames:
        raise typer.Exit(1)


@app.command()
def rig(
    paths: Annotated[list[str], typer.Argument(metavar="BAG | check RIG BAG", help="recording; or check, rig file and recording")],
    out: Annotated[
        Path | None, _path_option("-o", "--out", help="rig file to write (rig.yaml), or folder of the check (rig_check)")
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
            _usage("give one recording, or `check RIG BAG`")
        if is_check:
            with _progress("reading") as on_progress:
                lines, is_good = check(expand_home(paths[1]), expand_home(paths[2]), out or Path("rig_check"), on_progress)
        else:
            lines, is_good = draft(expand_home(paths[0]), out or Path("rig.yaml"), force), True
        for line in lines:
            typer.echo(line)
    if not is_good:
        raise typer.Exit(1)


@app.command()
def demo(
    data: Annotated[Path | None, _path_option(help="SemanticKITTI, KITTI or nuScenes folder; default: a simulated drive")] = None,
    out: Annotated[Path, _path_option(help="folder of the results")] = Path("out/demo"),
    scene: Annotated[str | None, typer.Option(help="sequence or scene of --data; default: the first")] = None,
    bundle: Annotated[Path | None, _path_option(help="folder of the network; default: the preset's")] = None,
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
        _usage(f"--rate must be auto or a number, not {rate!r}")
    if wanted is not None and not wanted > 0:
        _usage("--rate must be positive")
    with report_errors(needs_ros=True):
        from occle_ros.tools.demo import run_demo

        run_demo(data, out, scene, bundle, wanted, frames, pictures)


@app.command()
def view(
    source: Annotated[
        Path | None,
        _path_argument(help="results of `occle run`, bag, data set, or recording of voxels; default: the running node's topics"),
    ] = None,
    html: Annotated[Path | None, _path_option(help="write one self-contained page instead of opening the rerun viewer")] = None,
    save: Annotated[Path | None, _path_option(help="write a recording of the rerun viewer (.rrd) instead of opening it")] = None,
    web: Annotated[bool, typer.Option("--web", help="serve the rerun viewer to browsers")] = False,
    port: Annotated[int, typer.Option(min=1, max=65534, help="of --web; its data are on the next one")] = 9090,
    bundle: Annotated[Path | None, _path_option(help="folder of the network; default: the preset's")] = None,
    config: Annotated[Path | None, _path_option(help="parameter file of the node, for its topics")] = None,
    kind: Annotated[DatasetKind | None, typer.Option(help="layout of a data set; default: detected")] = None,
    scene: Annotated[str | None, typer.Option(help="sequence or scene of a data set")] = None,
    namespace: Annotated[str, typer.Option(help="namespace of the running node")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of frames; default: 100 in a page, else all")] = None,
    every: Annotated[int, typer.Option(min=1, help="show each n-th frame only")] = 1,
    with_map: Annotated[bool, typer.Option("--map/--no-map", help="the rolling map, where poses are known")] = True,
    engine: Annotated[EngineName, typer.Option(help="inference engine for a bag or a data set")] = "auto",
) -> None:
    """Show cameras, scan, voxels, map and timings: in a page, or in the rerun viewer (pip install 'occle_ros[viewer]').

    Examples: occle view out/run_08 --html page.html            occle view out/bag_08 --web            occle view
    """
    if sum((html is not None, save is not None, web)) > 1:
        _usage("give one of --html, --save and --web")
    if source is None and (html or kind or scene or limit or every > 1):
        _usage("--html, --kind, --scene, --limit and --every need a SOURCE; without it the running node is shown")
    with report_errors(needs_ros=source is None), _progress("viewing") as on_progress:
        from occle_core.viewer.sources import Selection
        from occle_ros.config.loading import load_config
        from occle_ros.config.node_config import NodeConfig
        from occle_ros.system.ros_process import stop_signals
        from occle_ros.viewer.live_source import live_source
        from occle_ros.viewer.show import PAGE_FRAMES, view_page, view_rerun
        from occle_ros.viewer.sources import open_source

        parameters = load_config(config) if config else None
        selection = Selection(limit or (PAGE_FRAMES if html else None), every)
        if source is not None and html is not None:
            line = view_page(open_source(source, selection, bundle, parameters, kind, scene, engine), html, with_map, on_progress)
        else:
            with stop_signals() as stop:
                if source is None:
                    found = live_source(parameters or NodeConfig(), bundle, namespace, stop)
                else:
                    found = open_source(source, selection, bundle, parameters, kind, scene, engine)
                line = view_rerun(found, save, port if web else None, with_map, on_progress, stop)
    typer.echo(line)


@app.command()
def doctor(
    topics: Annotated[
        list[str] | None, typer.Option(help="topic to check (repeatable); default: all inputs of the configuration")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="duration of the check")] = 5.0,
    config: Annotated[Path | None, _path_option(help="parameter file of the node; default: the KITTI preset")] = None,
    rig: Annotated[Path | None, _path_option(help="rig.yaml of the sensors")] = None,
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


@app.command(name="launch-plan", hidden=True)
def launch_plan(arguments: Annotated[str, typer.Argument(help="launch arguments as a JSON object")]) -> None:
    """Print the plan of occupancy.launch.py as JSON: the launch file runs in a Python without the node's packages."""
    with report_errors():
        import json
        from dataclasses import asdict

        from occle_ros.system.share_files import share_file
        from occle_ros.tools.launch_arguments import plan_launch

        plan = plan_launch(json.loads(arguments), share_file("config").parent)
        typer.echo(json.dumps(asdict(plan) | {"config": str(plan.config)}))


@app.command()
def version() -> None:
    """Show the installed versions."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("occle_ros", "torch", "numpy", "rclpy", "rosbags"):
        try:
            typer.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} is not installed as a Python package")


@contextmanager
def report_errors(needs_ros: bool = False) -> Iterator[None]:
    """Report user errors as one message on stderr with exit code 1; other exceptions keep their traceback.

    Args:
        needs_ros: the command communicates with other processes and needs the middleware of RMW_IMPLEMENTATION.
    """
    from occle_ros.system.environment import TransportError, check_middleware, ignore_missing_middleware

    try:
        if needs_ros:
            check_middleware()
        else:
            ignore_missing_middleware()
        yield
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None
    except EOFError as error:  # typer would print "Aborted." only
        raise RuntimeError("a file or stream ended too early") from error
    except Exception as error:
        if not isinstance(error, TransportError) and not isinstance(
            error, _user_errors()
        ):  # in this order: `_user_errors` imports rclpy
            raise
        errors.print(f"error: {error}", style="bold red" if errors.is_terminal else None)
        raise typer.Exit(1) from error


def _user_errors() -> tuple[type[Exception], ...]:
    """Exceptions of invalid input; imported late so that `occle --help` stays quick."""
    from occle_core.bags.storage import BagError
    from occle_core.bundle import BundleError
    from occle_core.datasets import DatasetError
    from occle_core.errors import EngineError
    from occle_core.frame import FrameError
    from occle_core.output_folder import OutputError
    from occle_core.rig import RigError
    from occle_core.sensors.messages import ConversionError
    from occle_core.viewer.view_frame import ViewError
    from occle_ros.bags.player import PlayError
    from occle_ros.calibration.files import CalibrationError
    from occle_ros.config.groups import ConfigError
    from occle_ros.system.child_process import ProcessError

    core = (BundleError, DatasetError, EngineError, FrameError, OSError)
    ours = (OutputError, RigError, CalibrationError, ConfigError, ConversionError, ProcessError, PlayError, ViewError)
    return (*core, BagError, *ours)


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_progress


def _usage(text: str) -> None:
    errors.print(f"usage: {text}; see `occle {sys.argv[1] if len(sys.argv) > 1 else ''} --help`")
    raise typer.Exit(2)


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


def main() -> None:
    """Console script `occle`."""
    app()


if __name__ == "__main__":
    main()
