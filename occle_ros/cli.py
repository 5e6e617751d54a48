"""`occle`: bags, replay, the node, offline runs and the demo."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from occle_core.paths import with_home

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Live 3D semantic occupancy from cameras and a LiDAR.")  # fmt: skip
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def _expanded(path: Path | None) -> Path | None:
    """~ in the value of an option, where the shell does not replace it (--bag=~/x)."""
    return path and with_home(path)


_path_option = partial(typer.Option, callback=_expanded)
_path_argument = partial(typer.Argument, callback=_expanded)


class Kind(str, Enum):
    """Layouts of data sets on disk."""

    semantickitti = "semantickitti"
    kitti = "kitti"
    nuscenes = "nuscenes"
    streets = "streets"


class EngineChoice(str, Enum):
    """Names of `occle_core.engines`, here so that `occle --help` stays quick."""

    auto = "auto"
    torch = "torch"
    native = "native"
    torch_graph = "torch_graph"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"


@app.command()
def bag(
    kind: Annotated[Kind, typer.Argument(help="layout of the data set")],
    path: Annotated[Path, _path_argument(help="folder of the data set or of one sequence")],
    out: Annotated[Path, _path_argument(help="bag folder to make")],
    scene: Annotated[str | None, typer.Option(help="which sequence or scene, where there are several")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many frames")] = None,
    compressed: Annotated[bool | None, typer.Option("--compressed/--raw", help="images; default: as on disk")] = None,
) -> None:
    """Write a data set as a ROS 2 bag (mcap).

    Example: occle bag semantickitti dataset/sequences/08 out/bag_08
    """
    with clear_errors():
        from occle_ros.bags.converter import convert

        summary = convert(kind.value, path, out, compressed, limit, scene)
        typer.echo(f"{summary.path}: {summary.frames} frames, {summary.duration:.1f} s")
        for topic, count in summary.messages.items():
            typer.echo(f"{count:6d}  {topic}")
        for note in summary.notes:
            typer.echo(f"note: {note}")


@app.command()
def play(
    path: Annotated[Path, _path_argument(metavar="BAG", help="bag folder, or mcap or db3 file")],
    rate: Annotated[float, typer.Option(min=0.01, help="2 plays twice as fast")] = 1.0,
    loop: Annotated[bool, typer.Option(help="begin again at the end")] = False,
    clock: Annotated[float, typer.Option(min=0, help="how often a second /clock is published; 0: never")] = 100.0,
    wait_for: Annotated[list[str] | None, typer.Option(help="begin when this topic has a subscriber")] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="how long to wait for those")] = 15.0,
    best_effort: Annotated[bool, typer.Option(help="publish clouds and images best effort instead of reliable")] = False,
    report: Annotated[Path | None, _path_option(help="JSON file that says what was sent")] = None,
) -> None:
    """Publish a bag's messages at their pace, without a ROS installation.

    Example: occle play out/bag_08 --rate 0.5 --loop
    """
    with clear_errors(live=True):
        from dataclasses import asdict

        from occle_core.atomic_file import write_json
        from occle_ros.bags.player import play as replay

        summary = replay(path, rate, loop, clock, wait_for or (), best_effort, wait_seconds=wait_seconds)
        if report:
            write_json(report, asdict(summary))


@app.command()
def record(
    out: Annotated[Path, _path_argument(help="bag folder to make")],
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC[=TYPE]...", help="a type that is not given is asked of the graph")],
    best_effort: Annotated[bool, typer.Option(help="subscribe best effort whatever is offered; default: as offered")] = False,
    idle: Annotated[float | None, typer.Option(min=0.1, help="end when nothing came for so many seconds")] = None,
) -> None:
    """Record topics into a bag until Ctrl-C.

    Example: occle record out/recording /occupancy/voxels=sensor_msgs/msg/PointCloud2
    """
    with clear_errors(live=True):
        from occle_core.notices import say
        from occle_ros.bags.recorder import record as record_topics

        named = {name: kind or None for name, _, kind in (topic.partition("=") for topic in topics)}
        for line in record_topics(named, out, idle_timeout=idle, best_effort=best_effort).lines():
            say(line)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def node(context: typer.Context) -> None:
    """Run the occupancy node; takes ROS arguments.

    Example: occle node --ros-args --params-file config/kitti.yaml -p calibration_file:=out/bag_08/calibration.yaml
    """
    raise typer.Exit(occupancy_node(["occle", *context.args]))


@app.command()
def run(
    out: Annotated[Path, _path_option(help="folder to make")],
    bundle: Annotated[Path | None, _path_option(help="folder of the network; default: the shipped one for the cameras")] = None,
    bag_path: Annotated[Path | None, _path_option("--bag", help="bag to read")] = None,
    dataset: Annotated[Path | None, _path_option(help="data set to read, instead of a bag")] = None,
    kind: Annotated[Kind | None, typer.Option(help="layout of the data set; default: guessed")] = None,
    scene: Annotated[str | None, typer.Option(help="which sequence or scene of the data set")] = None,
    config: Annotated[Path | None, _path_option(help="the node's parameter file, for bags with topics of other names")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many frames")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="draw pictures of so many frames")] = 3,
    engine: Annotated[EngineChoice, typer.Option(help="what runs the network")] = EngineChoice.auto,
) -> None:
    """Predict every frame of a bag or a data set; nothing is dropped.

    Example: occle run --bag out/bag_08 --bundle config/bundles/kitti --out out/run_08
    """
    if (bag_path is None) == (dataset is None):
        _usage("give either --bag or --dataset")
    if bag_path is not None and (kind or scene):
        _usage("--kind and --scene belong to --dataset")
    if dataset is not None and config:
        _usage("--config belongs to --bag")
    with clear_errors(), _progress("predicting") as told:
        from occle_ros.config.loading import load_config
        from occle_ros.config.share_paths import resolve
        from occle_ros.tools.demo_inputs import bundle_for
        from occle_ros.tools.offline_run import run_bag, run_dataset
        from occle_ros.tools.run_report import report_lines

        chosen = resolve(str(bundle), "--bundle") if bundle else bundle_for(bag_path, dataset, kind.value if kind else None, scene)
        if bag_path is not None:
            summary = run_bag(bag_path, chosen, out, load_config(config) if config else None, limit, pictures, told, engine.value)
        else:
            assert dataset is not None
            summary = run_dataset(dataset, chosen, out, kind.value if kind else None, scene, limit, pictures, told, engine.value)
    for line in report_lines(summary):
        typer.echo(line)
    for note in summary.notes:
        errors.print(f"note: {note}")
    for failure in summary.failed:
        errors.print(f"failed: {failure}")
    if not summary.frames:
        errors.print(f"error: no frame came out; {out / 'summary.json'} says why")
    if summary.failed or not summary.frames:
        raise typer.Exit(1)


@app.command()
def demo(
    data: Annotated[Path | None, _path_option(help="SemanticKITTI, KITTI or nuScenes folder; default: a simulated drive")] = None,
    out: Annotated[Path, _path_option(help="folder of the results")] = Path("out/demo"),
    scene: Annotated[str | None, typer.Option(help="which sequence or scene of --data")] = None,
    bundle: Annotated[Path | None, _path_option(help="folder of the network; default: the shipped one for the cameras")] = None,
    rate: Annotated[str, typer.Option(help="frames a second to play, or auto: what this machine sustains, at most 10")] = "auto",
    frames: Annotated[int, typer.Option(min=2, help="frames of the simulated drive, or at most so many of --data")] = 100,
    pictures: Annotated[int, typer.Option(min=0, help="draw pictures of so many frames")] = 4,
) -> None:
    """Replay a drive through the live node and show what came out.

    Examples: occle demo            occle demo --data dataset/sequences/08
    """
    try:
        wanted = None if rate == "auto" else float(rate)
    except ValueError:
        _usage(f"--rate must be auto or a number, not {rate!r}")
    if wanted is not None and not wanted > 0:
        _usage("--rate must be positive")
    with clear_errors(live=True):
        from occle_ros.tools.demo import run_demo

        run_demo(data, out, scene, bundle, wanted, frames, pictures)


@app.command()
def doctor(
    topics: Annotated[list[str] | None, typer.Option(help="look at this topic; default: all that the configuration needs")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="how long to listen")] = 5.0,
    config: Annotated[Path | None, _path_option(help="the node's parameter file; default: the KITTI rig's")] = None,
) -> None:
    """Listen to the sensors and say what is wrong with them and what mends it; exit code 1 if anything is.

    Examples: occle doctor --config config/nuscenes.yaml            occle doctor --topics /velodyne_points --seconds 3
    """
    with clear_errors(live=True):
        from occle_ros.config.loading import load_config
        from occle_ros.config.node_config import NodeConfig
        from occle_ros.tools.doctor import doctor as examine
        from occle_ros.tools.doctor_report import print_diagnosis

        found = examine(load_config(config) if config else NodeConfig(), seconds, topics or ())
        print_diagnosis(found, Console())
    if found.findings:
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Show the versions of what is installed."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("occle_ros", "torch", "numpy", "rclpy", "rosbags"):
        try:
            typer.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name} is not installed as a Python package")


@contextmanager
def clear_errors(live: bool = False) -> Iterator[None]:
    """An error of ours becomes one message on stderr and exit code 1; an error in our code keeps its traceback.

    Args:
        live: the command talks to other processes, and so needs the middleware that RMW_IMPLEMENTATION names.
    """
    from occle_ros.system.environment import TransportError, check_middleware, ignore_missing_middleware

    try:
        if live:
            check_middleware()
        else:
            ignore_missing_middleware()
        yield
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None
    except EOFError as error:  # of which typer would say "Aborted." and nothing else
        raise RuntimeError("a file or stream ended too early") from error
    except Exception as error:
        if not isinstance(error, TransportError) and not isinstance(error, _ours()):  # in this order: `_ours` imports rclpy
            raise
        errors.print(f"error: {error}", style="bold red" if errors.is_terminal else None)
        raise typer.Exit(1) from error


def _ours() -> tuple[type[Exception], ...]:
    """What a person can mend; imported late so that `occle --help` stays quick."""
    from occle_core.bags.storage import BagError
    from occle_core.bundle import BundleError
    from occle_core.datasets import DatasetError
    from occle_core.engines.base import EngineError
    from occle_core.frame import FrameError
    from occle_core.run_folder import OutputError
    from occle_core.sensors.messages import ConversionError
    from occle_ros.bags.player import PlayError
    from occle_ros.calibration.files import CalibrationError
    from occle_ros.config.groups import ConfigError
    from occle_ros.system.child_process import ProcessError

    core = (BundleError, DatasetError, EngineError, FrameError, OSError)
    return (*core, BagError, OutputError, CalibrationError, ConfigError, ConversionError, ProcessError, PlayError)


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield told


def _usage(text: str) -> None:
    errors.print(f"usage: {text}; see `occle {sys.argv[1] if len(sys.argv) > 1 else ''} --help`")
    raise typer.Exit(2)


def occupancy_node(arguments: list[str] | None = None) -> int:
    """The console script of the node, which launch files start."""
    from occle_ros.system.environment import TransportError, check_middleware

    try:
        check_middleware()
    except TransportError as error:
        print(f"occupancy node: {error}", file=sys.stderr, flush=True)
        return 1
    from occle_ros.node.node import main as run_node

    return run_node(arguments or sys.argv)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
