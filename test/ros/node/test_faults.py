# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the node does when something around it fails. Every fault has its row in docs/reference/reliability.md."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fault_rig import MS, SETTINGS, Car, jpeg_image, raw_image, scan, write_rig
from geometry_msgs.msg import TransformStamped
from node_rig import CAMERA, SECOND, T_CAMERA_LIDAR, lively_bundle, node_arguments, write_bag
from ros_process import Process, own_domain
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from occle_core.predictor import Predictor
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.common import time_from
from occle_ros.messages.transforms import transform_from_matrix
from occle_ros.pipeline.pipeline import Pipeline, ProcessedFrame
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.system.ros_process import ros_node

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[3]
Test = TypeVar("Test", bound=Callable[..., None])
WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Fault:
    """What is done to the running node, and what must come out.

    Args:
        script: what the sensors send, see `Car.play`.
        out: stamps of the voxels that come out, milliseconds, in this order.
        lost: what diagnostics count, exactly.
        said: regular expressions that the node's log matches.
        status: (level, part, words) that diagnostics show.
        cleared: the viewers' markers are removed on the way.
    """

    script: str
    out: tuple[int, ...]
    lost: Mapping[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    status: tuple[bytes, str, str] | None = None
    cleared: bool = False


FAULTS = {
    "no fault": Fault("F0 F100 F200", (0, 100, 200)),
    "silent camera": Fault(
        "F0 A500 S500 +700 A1200 S1200 +700 A1900 S1900", (0, 500, 1200, 1900), {"masked.cam3:stale": 3},
        (r"no image of cam3 on /cam3/image/compressed for \d s",), (WARN, "camera cam3", "no image on /cam3/image/compressed"),
    ),
    "late camera": Fault("A0 S0 B0 F100", (0, 100), {"masked.cam3:stale": 1, "synchronizer.image_late:cam3": 1}),
    "one camera at half rate": Fault("F0 A100 S100 F200 A300 S300 F400", (0, 100, 200, 300, 400), {"masked.cam3:stale": 2}),
    "LiDAR gap": Fault(
        "F0 A500 B500 +3500 F4000", (0, 4000), {}, (r"no scan on /lidar/points for \d s",), (ERROR, "pipeline", "no scan on"), True
    ),
    "scans out of order and duplicated": Fault(
        "F0 F100 F200 S100 S200 F300", (0, 100, 200, 300), {"synchronizer.scan_out_of_order": 1, "synchronizer.scan_duplicate": 1}
    ),
    "images out of order and duplicated": Fault(
        "A100 A50 A100 B100 S100", (100,), {"synchronizer.image_out_of_order:cam2": 1, "synchronizer.image_duplicate:cam2": 1}
    ),
    "clock jump back": Fault("F0 F100 F-60000 F-59900", (0, 100, -60000, -59900), {"synchronizer.clock_reset": 1}),
    "NaN in the cloud": Fault("F0:nan", (0,), {"points.not_finite": 1000}),
    "empty cloud": Fault("F0:empty +300 F100", (100,), {"dropped.unusable_frame": 1}, ("the point cloud is empty",)),
    "cloud of NaN only": Fault(
        "F0:all_nan +300 F100", (100,), {"dropped.unusable_frame": 1}, ("no point of the scan is left: 3000 not finite",)
    ),
    "beams without an echo": Fault("F0:zero", (0,), {"points.no_return": 1000}),
    "cloud of no returns only": Fault(
        "F0:all_zero +300 F100", (100,), {"dropped.unusable_frame": 1}, (r"no point of the scan is left: 3000 no returns",)
    ),
    "robot's own body in the scan": Fault("F0:body", (0,), {"points.exclude_box": 1000}),
    "huge cloud": Fault("F0:huge +300 F100", (100,), {"dropped.unreadable_message": 1}, ("/lidar/points has 3000000 points",)),
    "cloud shorter than it says": Fault(
        "F0:cut +300 F100", (100,), {"dropped.unreadable_message": 1}, ("/lidar/points's data is truncated",)
    ),
    "scans of another LiDAR": Fault(
        "F0:foreign +300 F100", (100,), {"dropped.no_calibration": 1},
        (r"scans are in frame 'rear_lidar', but the calibration file .* is for 'velodyne'.*tf.lidar_frame:=velodyne",),
    ),
    "wrong encoding": Fault("A0:deep B0 S0", (0,), {"masked.cam2:unreadable_image": 1}, ("encoding '16UC1' has more than 8 bits",)),
    "truncated JPEG": Fault("A0 B0:cut S0", (0,), {"masked.cam3:unreadable_image": 1}, ("is cut off or damaged",)),
    "changed image size": Fault("A0:small B0 S0 F100", (0, 100), {"masked.cam2:wrong_size": 1}, ("cam2 is masked: .*160 x 30",)),
}  # fmt: skip
"""Faults of what the sensors send, each injected into one running node."""
OTHERS: list[str] = []
"""Faults with a test of their own."""


def fault(name: str) -> Callable[[Test], Test]:
    """Marks the test of a fault that has its row in docs/reference/reliability.md."""
    OTHERS.append(name)
    return lambda test: test


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the bundle and the calibration, and a domain for all of this module's processes."""
    folder = tmp_path_factory.mktemp("faults")
    lively_bundle(folder / "bundle", cameras=2)
    write_rig(folder / "calibration.yaml")
    environment = pytest.MonkeyPatch()
    with own_domain(environment):
        yield folder
    environment.undo()


def arguments(place: Path, **parameters: Any) -> list[str]:
    return node_arguments(place / "bundle", place / "calibration.yaml", **{**SETTINGS, **parameters})


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[tuple[Process, Car]]:
    """One node for all faults of what the sensors send."""
    node = Process(tuple(arguments(place)), place / "node.log", 300)
    try:
        node.wait_for("ready: bundle", 60)
        with ros_node("car") as ours:
            car = Car(ours)
            car.connect()
            yield node, car
    finally:
        node.end()


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_sensors_send(running: tuple[Process, Car], name: str) -> None:
    node, car = running
    case = FAULTS[name]
    assert car.spin_until(lambda: car.status)
    before, seen, reported, printed = car.counts(), len(car.stamps), len(car.status), len(node.output)
    car.markers.clear()
    car.play(case.script, case.out)
    expected = [car.base + stamp * MS for stamp in case.out]
    assert car.spin_until(lambda: len(car.stamps) - seen >= len(expected), 5), f"{car.stamps[seen:]} instead of {expected}"
    assert car.stamps[seen:] == expected
    car.spin_until(lambda: car.lost(before) == case.lost, 5)
    assert car.lost(before) == case.lost
    for words in case.said:
        assert re.search(words, node.output[printed:]), node.output[printed:]
    if case.status:
        level, part, words = case.status
        shown = [s for s in car.status[reported:] if s.name == f"occupancy: {part}" and s.level == level and words in s.message]
        assert shown, [(status.name, status.level, status.message) for status in car.status[reported:]]
    assert car.cleared() or not case.cleared
    assert "Traceback" not in node.output[printed:]


@fault("subscriber that appears and leaves")
def test_nothing_is_computed_for_nobody(running: tuple[Process, Car]) -> None:
    node, car = running
    clouds: list[PointCloud2] = []
    for _ in range(2):
        with ros_node("viewer") as viewer:
            viewer.create_subscription(PointCloud2, "/occupancy/voxels", clouds.append, 10)
            node.wait_for("2 subscribers of voxels")
        assert car.spin_until(lambda: re.findall(r"(\d+) subscribers of voxels", node.output)[-1] == "1", 10), node.output
    seen = len(car.stamps)
    car.play("F0", (0,))
    assert car.stamps[seen:] == [car.base]


@fault("bundle deleted while running")
def test_the_network_in_memory_goes_on(running: tuple[Process, Car], place: Path) -> None:
    _, car = running
    reload = car.node.create_client(Trigger, "/occupancy/reload_bundle")
    assert car.spin_until(reload.service_is_ready)

    def answer() -> Trigger.Response:
        future = reload.call_async(Trigger.Request())
        assert car.spin_until(future.done, 40)
        return future.result()

    (place / "bundle").rename(place / "gone")
    seen = len(car.stamps)
    car.play("F0", (0,))
    refused = answer()
    assert not refused.success and "there is no" in refused.message and "Still running" in refused.message
    car.play("F0", (0,))
    (place / "gone").rename(place / "bundle")
    taken = answer()
    assert taken.success, taken.message
    car.play("F0", (0,))
    assert len(car.stamps) == seen + 3


@fault("two nodes in one domain")
def test_two_nodes_see_the_same_and_are_told_apart(running: tuple[Process, Car], place: Path) -> None:
    _, car = running
    # Its inputs are those of the other robot, which are relative names.
    shared = ("lidar/points", "cam2/image", "cam2/camera_info", "cam3/image/compressed", "cam3/camera_info")
    rules = [word for topic in shared for word in ("-r", f"{topic}:=/{topic}")]
    second = Process((*arguments(place), "-r", "__ns:=/robot", *rules), place / "second.log", 100)
    try:
        second.wait_for("ready: bundle", 60)
        with ros_node("other_car") as ours:
            other = Car(ours, "/robot/occupancy")
            car.connect(nodes=2)
            assert other.spin_until(lambda: other.node.count_publishers("/robot/occupancy/voxels"))
            other.spin(0.5)
            car.play("F0", (0,))
            assert other.spin_until(lambda: car.base in other.stamps, 5)
            assert other.widths[car.base] == car.widths[car.base] > 1000
            names = {"occupancy: pipeline", "robot/occupancy: pipeline"}
            assert other.spin_until(lambda: names <= {status.name for status in other.status}, 5)
        second.interrupt(signal.SIGTERM)
        assert second.result(5) == 0, second.output
    finally:
        second.end()


class Slow(NamedTuple):
    """A node whose network takes as long as the file `delay` says; a word instead of a number breaks it. `segments` is its shared
    memory, which differs from its peers' only while it has none."""

    node: Process
    car: Car
    delay: Path
    segments: set[Path]


@pytest.fixture(scope="module")
def slow(place: Path) -> Iterator[Slow]:
    """In a domain of its own."""
    delay = place / "delay"
    delay.write_text("0.2")
    script, environment = str(Path(__file__).parents[1] / "slow_node.py"), pytest.MonkeyPatch()
    with own_domain(environment):
        node = Process((script, str(delay), *arguments(place)[3:]), place / "slow.log", 300)
        try:
            node.wait_for("ready: bundle", 60)
            segments = node.segments()
            with ros_node("car") as ours:
                environment.undo()
                car = Car(ours)
                car.connect()
                yield Slow(node, car, delay, segments)
        finally:
            environment.undo()
            node.end()


@fault("overload at 5x the sustainable rate")
def test_the_newest_scan_wins(slow: Slow) -> None:
    node, car, _, _ = slow
    max_concurrent = NodeConfig().max_concurrent_frames
    period = time_of_a_frame(car) / max_concurrent / 5
    memory: list[int] = []
    first, began = len(car.stamps), time.monotonic()
    while time.monotonic() - began < 5 or (len(car.stamps) - first < 15 and time.monotonic() - began < 25):
        car.base = time.time_ns()
        for kind in "ABS":
            car.send(kind, 0)
        car.spin(period)
        memory.append(resident(node.pid))
    stamps = car.stamps[first + 2 :]
    assert len(stamps) > 6
    # Never idle, the network needs for a frame what lies between two that come out, if it takes one at a time. A scan waits for
    # the one before it at most until the next scan replaces it.
    took = np.array([car.arrived[stamp] - car.arrived[before] for before, stamp in zip(stamps, stamps[max_concurrent:])])
    late = np.array([car.arrived[stamp] - stamp for stamp in stamps[max_concurrent:]])
    assert np.mean(late < 2 * took) >= 0.9, (late / 1e6, took / 1e6)
    assert memory[-1] - memory[len(memory) // 3] < 30e6, memory
    assert car.spin_until(lambda: car.counts()["dropped.replaced_by_newer"] > 2 * len(stamps), 3)


@fault("crash in one frame")
@fault("engine that keeps failing")
def test_a_crash_costs_one_frame_and_three_the_engine(slow: Slow) -> None:
    node, car, delay, _ = slow
    car.spin(1.0)
    car.play("F0", (0,))  # nothing of an earlier test is still on its way
    seen = len(car.stamps)
    for crashes in (1, 3):
        delay.write_text("broken")
        for number in range(crashes):
            car.play("F0")
            stamp = f"scan {car.base / 1e9:.3f}"
            # The same problem is reported once in five seconds; diagnostics always have the newest.
            assert car.spin_until(lambda stamp=stamp: stamp in car.values().get("last_error", ""), 5), (number, node.output)
        delay.write_text("0.2")
        car.play("F0", (0,))
        assert car.stamps[-1] == car.base
    assert len(car.stamps) == seen + 2
    assert "ValueError: could not convert string to float: 'broken'" in node.output and "Traceback" in node.output
    assert car.counts()["dropped.internal_error"] == 4
    assert "3 frames in a row failed with engine torch" in node.output
    assert car.spin_until(lambda: "3 frames in a row failed" in car.values().get("degraded", ""), 3)


@fault("SIGTERM mid-frame")
def test_the_end_in_the_middle_of_a_frame(slow: Slow) -> None:
    node, car, delay, segments = slow
    assert segments and all(segment.exists() for segment in segments)
    delay.write_text("30")
    car.play("F0")
    node.wait_for("at work")
    began = time.monotonic()
    node.interrupt(signal.SIGTERM)
    assert node.result(6) == 0, node.output
    assert time.monotonic() - began < 2
    assert "the last frame is still being processed; exiting without it" in node.output
    assert not any(segment.exists() for segment in segments)


def time_of_a_frame(car: Car) -> float:
    """Seconds from a scan to its voxels, the median of five."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        car.play("F0", (0,))
        times.append(time.monotonic() - began)
    return float(np.median(times))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds for itself; segments that it shares with senders do not count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


@fault("bag loop")
def test_a_bag_in_a_loop(place: Path, tmp_path: Path, ros_domain: int) -> None:
    bag = write_bag(tmp_path / "bag", [SECOND + number * 300 * MS for number in range(3)])
    settings = {"use_sim_time": True, "sync.deadline_ms": 300.0}
    node = Process(tuple(node_arguments(place / "bundle", bag / "calibration.yaml", **settings)), place / "loop.log", 100)
    player = None
    try:
        node.wait_for("ready: bundle", 60)
        with ros_node("viewer") as ours:
            car = Car(ours)
            node.wait_for("1 subscribers of voxels")
            waits = ("--wait-for", "/lidar/points", "--wait-for", "/cam2/image")
            player = Process(("-m", "occle_ros.cli", "play", str(bag), "--loop", "--rate", "0.4", *waits), place / "player.log", 60)
            assert car.spin_until(lambda: rounds(car.stamps) >= 4, 40), (car.stamps, node.output)
            assert car.spin_until(lambda: car.counts()["synchronizer.clock_reset"] >= 3, 4)
            # A slow machine may leave frames out, but none is refused for its stamp.
            assert not any("scan_" in reason for reason in car.counts()), car.counts()
        assert "Traceback" not in node.output
    finally:
        for process in (player, node):
            if process:
                process.end()


def rounds(stamps: list[int]) -> int:
    """In how many runs through the bag these stamps came: within one they grow."""
    return sum(stamp <= before for before, stamp in itertools.pairwise([1 << 62, *stamps]))


class Rig:
    """The pipeline without a node: for faults that have nothing to do with the transport."""

    def __init__(self, place: Path, transforms: TransformBuffer | None = None, **settings: Any) -> None:
        self.config = NodeConfig.model_validate({"camera_names": ["cam2", "cam3"], **settings})
        self.calibration = Calibration(self.config, transforms)
        self._pipeline = Pipeline(Predictor.load(place / "bundle", threads=1), self.config, self.calibration)

    def process(self, stamp: int = 5) -> ProcessedFrame:
        """One frame."""
        images = (raw_image(stamp), jpeg_image(stamp))
        return self._pipeline.process(SyncedMessages(stamp, scan(stamp), images, {}))

    def frame(self) -> Mapping[str, str]:
        """Reasons of the cameras that one frame went without."""
        return self.process().assembled.masked


@fault("CameraInfo missing, then arriving")
def test_a_camera_joins_when_its_info_comes(place: Path) -> None:
    T = T_CAMERA_LIDAR.reshape(-1).tolist()
    cameras = {name: {"T_camera_lidar": T} for name in ("cam2", "cam3")}
    rig = Rig(place, T_grid_lidar=np.eye(4).reshape(-1).tolist(), cameras=cameras)
    assert rig.frame() == {"cam2": "no_camera_info", "cam3": "no_camera_info"}
    rig.calibration.add_camera_info("cam3", info_from_camera(CAMERA, 1, "cam3_optical"))
    assert rig.frame() == {"cam2": "no_camera_info"}
    rig.calibration.add_camera_info("cam2", info_from_camera(CAMERA, 1, "cam2_optical"))
    assert rig.frame() == {}


@fault("TF missing, then arriving")
def test_frames_begin_when_the_transforms_come(place: Path) -> None:
    transforms = TransformBuffer()
    rig = Rig(place, transforms, tf={"grid_frame": "base_link"})
    for name in ("cam2", "cam3"):
        rig.calibration.add_camera_info(name, info_from_camera(CAMERA, 1, f"{name}_optical"))
    with pytest.raises(CalibrationError, match=r"no transform from 'velodyne' to 'base_link'.*none"):
        rig.frame()
    transforms.add(stamped("base_link", "velodyne", np.eye(4)))
    assert rig.frame() == {"cam2": "no_transform", "cam3": "no_transform"}
    for name in ("cam2", "cam3"):
        transforms.add(stamped("velodyne", f"{name}_optical", np.linalg.inv(T_CAMERA_LIDAR)))
    assert rig.frame() == {}


@fault("TF that changes while running")
def test_extrinsics_follow_tf(place: Path) -> None:
    transforms = TransformBuffer()
    rig = Rig(place, transforms, tf={"grid_frame": "base_link"})
    for name in ("cam2", "cam3"):
        rig.calibration.add_camera_info(name, info_from_camera(CAMERA, 1, f"{name}_optical"))
        transforms.add(stamped("velodyne", f"{name}_optical", np.linalg.inv(T_CAMERA_LIDAR)), fixed=True)
    for height, stamp in ((1.5, SECOND), (2.5, 2 * SECOND)):  # a mast that rises
        T = np.eye(4)
        T[2, 3] = height
        transforms.add(stamped("base_link", "velodyne", T, stamp))
    for stamp, height in ((SECOND, 1.5), (SECOND + 250 * MS, 1.75), (2 * SECOND + 400 * MS, 2.5)):
        assert rig.process(stamp).assembled.frame.T_grid_lidar[2, 3] == pytest.approx(height)
    with pytest.raises(CalibrationError, match=r"known from 1\.000 to 2\.000 s, not at 3\.000 s"):
        rig.process(3 * SECOND)
    T_lidar_camera = np.linalg.inv(T_CAMERA_LIDAR)
    T_lidar_camera[0, 3] += 0.1
    transforms.add(stamped("velodyne", "cam3_optical", T_lidar_camera), fixed=True)  # sent again after a calibration
    cameras = rig.process(SECOND).assembled.frame.cameras
    assert cameras[1].T_camera_lidar[2, 3] - cameras[0].T_camera_lidar[2, 3] == pytest.approx(-0.1)


def stamped(parent: str, child: str, T: np.ndarray, stamp: int = 0) -> Any:
    """What a TFMessage holds; tf2_msgs itself has no wheel."""
    transform = TransformStamped(child_frame_id=child, transform=transform_from_matrix(T))
    transform.header.frame_id, transform.header.stamp = parent, time_from(stamp)
    return SimpleNamespace(transforms=[transform])


def test_every_fault_has_its_row() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "reference" / "reliability.md").read_text(), re.MULTILINE)
    missing = [name for name in [*FAULTS, *OTHERS] if name not in rows]
    assert not missing, f"docs/reference/reliability.md has no row for {missing}"
