# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle demo`: replay of a drive through the live node; recorder, node and player are separate processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from std_msgs.msg import Float64

from occle_core.atomic_file import write_json
from occle_core.bags.bag_file import open_bag
from occle_core.datasets import Dataset, list_scenes, open_dataset
from occle_core.output_folder import lock_folder
from occle_core.paths import share_file
from occle_ros.bags.converter import convert
from occle_ros.bags.dataset_messages import stamp_shifts
from occle_ros.bags.reader import BagReader
from occle_ros.calibration.files import CALIBRATION_FILE
from occle_ros.config.node_config import absolute_topic
from occle_ros.config.presets import PRESETS, preset_for
from occle_ros.config.share_paths import resolve_bundle
from occle_ros.system.child_process import ChildProcess, ProcessError
from occle_ros.system.ros_process import ros_node, termination_signals
from occle_ros.tools.demo_inputs import pick_sequence, recorded_rate, simulate_drive, sustained_rate
from occle_ros.tools.demo_pictures import DemoPictures
from occle_ros.tools.demo_report import print_report, summarise
from occle_ros.tools.offline_run import flatten_bag_folder

LATENCY_TOPIC = "/occupancy/debug/pipeline_latency_ms"
RECORDED = {
    "/occupancy/voxels": "sensor_msgs/msg/PointCloud2",
    "/occupancy/markers": "visualization_msgs/msg/MarkerArray",
    LATENCY_TOPIC: "std_msgs/msg/Float64",
    "/occupancy/debug/processing_time/wait_ms": "std_msgs/msg/Float64",
    "/occupancy/debug/processing_time/publish_ms": "std_msgs/msg/Float64",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
CLOCK_HZ = 50  # resolution of the age of a scan at its arrival: 20 ms of replay time


def run_demo(
    data: Path | None, out: Path, scene: str | None, bundle: Path | None, rate: float | None, frames: int, pictures: int
) -> dict[str, Any]:
    """Convert, replay, record and report a drive.

    Args:
        data: data set folder; None simulates a street drive.
        out: folder of the results; those of an earlier demo are replaced.
        scene: sequence of `data`; None: the first.
        bundle: folder of the network; None: that of the preset for the cameras.
        rate: frames per second; None: the measured sustained rate.
        frames: of the simulated drive, or maximum number of frames of `data`.
        pictures: number of frames to draw pictures of.

    Returns:
        The report, which is also in OUT/report.json.

    Raises:
        ProcessError: a process failed or took too long. DatasetError, BundleError, ConfigError, BagError: unusable input, or
            another demo writes to `out`.
    """
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    with lock_folder(out, out):
        return _demo(console, data, out, scene, bundle, rate, frames, pictures)


def _demo(
    console: Console,
    data: Path | None,
    out: Path,
    scene: str | None,
    bundle: Path | None,
    rate: float | None,
    frames: int,
    pictures: int,
) -> dict[str, Any]:
    _clear(out)
    with _interrupt_on_signals(), _own_domain(console):
        source = simulate_drive(out / "streets", frames, 120 + 10 * frames) if data is None else pick_sequence(data, scene)
        if data is not None and scene is None and len(scenes := list_scenes(data)) > 1:
            text = f"{len(scenes)} sequences: {', '.join(scenes[:10])}; using the first; select another with --scene"
            console.print(text, highlight=False, soft_wrap=True)
        dataset = open_dataset(source.path, source.kind, source.scene)
        preset = preset_for(dataset.camera_names)
        network = resolve_bundle(str(bundle or PRESETS[preset].bundle), "--bundle" if bundle else "the preset's bundle")
        summary = convert(source.kind, source.path, out / "bag", compressed=preset == "nuscenes", limit=frames, scene=source.scene)
        console.print(f"{dataset.kind} {dataset.name}: {summary.frames} frames bagged", highlight=False, soft_wrap=True)
        stamps = _bag_stamps(dataset, summary.frames)
        speed, hz = _speed(console, out / "bag", network, stamps, rate)
        player, node = _replay(console, out, preset, network, summary.frames, speed, hz)
        (recorded,) = (out / "recording").iterdir()
        flatten_bag_folder(recorded, out / "occupancy.mcap")
        (out / "recording").rmdir()
    report = summarise(player, node, _message_counts(out / "occupancy.mcap"), "/lidar/points", speed)
    report["played_hz"] = hz
    write_json(out / "report.json", report)
    drawn = DemoPictures(out, dataset, network, stamps)
    files, page = drawn.draw(pictures), drawn.write_page(node)
    print_report(console, report)
    console.print(f"published messages: {out / 'occupancy.mcap'}\nreport: {out / 'report.json'}", highlight=False, soft_wrap=True)
    console.print(f"pictures: {', '.join(str(file) for file in files)}", highlight=False, soft_wrap=True)
    if page:
        console.print(f"open in a browser: {page}", highlight=False, soft_wrap=True)
    if not report["frames"]["published"]:
        raise ProcessError(f"the node published no frame; see {out / 'logs'}")
    return report


def _speed(console: Console, bag: Path, bundle: Path, stamps: Sequence[int], rate: float | None) -> tuple[float, float]:
    """Speed of the replay (1: as recorded) and frames per second."""
    recorded = recorded_rate(stamps)
    if rate is not None:
        return rate / recorded, rate
    hz, per_frame = sustained_rate(bag, bundle, lambda text: console.print(text, highlight=False, soft_wrap=True))
    pace = f"playing at {hz:.1f} Hz (recorded at {recorded:.1f} Hz)"
    console.print(f"the network takes {per_frame * 1e3:.0f} ms per frame on this machine: {pace}", highlight=False, soft_wrap=True)
    return hz / recorded, hz


def _replay(
    console: Console, out: Path, preset: str, bundle: Path, frames: int, speed: float, hz: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the three processes; returns the player's and the node's report."""
    logs, config = out / "logs", BagReader(out / "bag").config
    with ExitStack() as stack:
        latency_listener = stack.enter_context(_LatencyListener())
        overlay = f"/occupancy/overlay/{next(iter(config.cameras))}"
        topics = [f"{topic}={kind}" for topic, kind in {**RECORDED, overlay: "sensor_msgs/msg/Image"}.items()]
        recording = str(out / "recording" / "occupancy")
        recorder = stack.enter_context(ChildProcess("recorder", _occle("record", recording, *topics), logs / "recorder.log"))
        node = stack.enter_context(ChildProcess("node", _occle("node", *_node_arguments(out, preset, bundle)), logs / "node.log"))
        node.wait_for("ready: bundle", 120)
        recorder.wait_for("recording", 60)
        # The node publishes to subscribers only: otherwise the first frames would not be recorded.
        node.wait_for("subscribers of voxels", 30)
        inputs = [absolute_topic(topic) for topic in (config.lidar.topic, *(camera.topic for camera in config.cameras.values()))]
        waits = [word for topic in inputs for word in ("--wait-for", topic)]
        arguments = ["--rate", f"{speed:.6f}", "--clock", str(CLOCK_HZ), *waits, "--report", str(logs / "player.json")]
        player = stack.enter_context(ChildProcess("player", _occle("play", str(out / "bag"), *arguments), logs / "player.log"))
        _follow(console, latency_listener, [recorder, node], player, frames, 90 + 2 * frames / hz)
        recorder.stop(10)
        node.stop(5)
        recorder.check()
        node.check()
    return json.loads((logs / "player.json").read_text()), json.loads((logs / "node.json").read_text())


def _follow(
    console: Console,
    latency_listener: _LatencyListener,
    others: Sequence[ChildProcess],
    player: ChildProcess,
    frames: int,
    seconds: float,
) -> None:
    """Show progress until the player has ended and the node is idle."""
    end = time.monotonic() + seconds
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("replay", total=frames, state="")
        while player.exit_code is None or not latency_listener.is_idle(frames):
            latency_listener.spin(0.1)
            bar.update(task, completed=latency_listener.count, state=f"{latency_listener.latest_ms:.0f} ms")
            for child in [*others, player]:
                child.check()
            if time.monotonic() > end:
                done = f"{latency_listener.count} of {frames} frames were published"
                raise ProcessError(f"the replay did not end within {seconds:.0f} s; {done}. Logs: {player.log.parent}")


class _LatencyListener:
    """Subscription of the latency topic, to count finished frames."""

    def __init__(self) -> None:
        self.count, self.latest_ms = 0, 0.0
        self._last = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> _LatencyListener:
        node = self._stack.enter_context(ros_node("demo"))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._stack.callback(self._executor.shutdown)
        node.create_subscription(Float64, LATENCY_TOPIC, self._take, 100)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def spin(self, seconds: float) -> None:
        """Process received messages."""
        self._executor.spin_once(timeout_sec=seconds)

    def is_idle(self, frames: int) -> bool:
        """True if all frames are published, or none for three seconds."""
        return self.count >= frames or time.monotonic() - self._last > 3.0

    def _take(self, message: Float64) -> None:
        self.count += 1
        self.latest_ms = message.data
        self._last = time.monotonic()


def _node_arguments(out: Path, preset: str, bundle: Path) -> list[str]:
    given = {
        "bundle": bundle,
        "calibration_file": (out / "bag" / CALIBRATION_FILE).resolve(),
        "report_file": (out / "logs" / "node.json").resolve(),
    }
    arguments = ["--ros-args", "--params-file", str(share_file(f"config/{preset}.yaml")), "-p", "use_sim_time:=true"]
    return arguments + [word for name, value in given.items() for word in ("-p", f"{name}:={json.dumps(str(value))}")]


def _occle(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "occle_ros.cli", *arguments]


def _bag_stamps(dataset: Dataset, count: int) -> list[int]:
    """Stamps of the scans in the bag, by frame number."""
    shifts, _ = stamp_shifts(dataset, count)
    return [stamp + shift for stamp, shift in zip(dataset.stamps, shifts)]


def _message_counts(bag: Path) -> dict[str, int]:
    with open_bag(bag) as reader:
        return {name: info.msgcount for name, info in reader.topics.items()}


def _clear(out: Path) -> None:
    """Remove the files of an earlier demo, and nothing else."""
    for name in ("streets", "bag", "logs", "pictures", "recording"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("occupancy.mcap", "report.json", "page.html"):
        (out / name).unlink(missing_ok=True)


@contextmanager
def _own_domain(console: Console) -> Iterator[None]:
    """Set a ROS_DOMAIN_ID of its own, unless the user has set one, to separate the demo from other ROS systems."""
    if "ROS_DOMAIN_ID" in os.environ:
        yield
        return
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    console.print(f"watch it live with ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}", highlight=False, soft_wrap=True)
    try:
        yield
    finally:
        del os.environ["ROS_DOMAIN_ID"]


@contextmanager
def _interrupt_on_signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP as Ctrl-C, so that the child processes are stopped."""

    def on_signal(number: int, stack: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in termination_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
