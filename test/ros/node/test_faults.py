# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the node does when something around it fails. Every fault has its row in docs/reference/reliability.md."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from documented import assert_rows, rows_of
from fault_rig import MS, Car, Fault, arguments_of, connected, write_place
from node_rig import SECOND, node_arguments, write_bag
from ros_process import Process, own_domain, ready_node
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from occle_ros.system.ros_process import ros_node

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR
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
fault = rows_of(OTHERS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the bundle and the calibration, and a domain for all of this module's processes."""
    with pytest.MonkeyPatch.context() as environment, own_domain(environment):
        yield write_place(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[tuple[Process, Car]]:
    """One node for all faults of what the sensors send."""
    with ready_node(arguments_of(place), place / "node.log") as node, connected(Car) as car:
        yield node, car


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
        assert car.spin_until(lambda words=words: re.search(words, node.output[printed:]), 5), node.output[printed:]
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
    second = Process((*arguments_of(place), "-r", "__ns:=/robot", *rules), place / "second.log", 100)
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


def test_every_fault_has_its_row() -> None:
    assert_rows("Faults", [*FAULTS, *OTHERS])
