# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Two LiDARs and odometry that fail while a real node runs: what comes out, and what is counted, said and shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from documented import assert_rows
from fault_rig import MS, Car, Fault, connected
from lidar_rig import T_LIDAR_REAR, main_scan, odometry, rear_scan
from nav_msgs.msg import Odometry
from node_rig import lively_bundle, node_arguments
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros_process import Process, own_domain, ready_node
from sensor_msgs.msg import PointCloud2

from occle_ros.messages.common import time_from

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
WARN, ERROR = DiagnosticStatus.WARN, DiagnosticStatus.ERROR
SETTINGS = {
    "camera_names": [""],
    "T_grid_lidar": np.eye(4).reshape(-1).tolist(),
    "lidar_names": ["rear"],
    "lidars.rear.T_lidar": T_LIDAR_REAR.reshape(-1).tolist(),
    "lidar.odometry_topic": "/odom",
    "sync.deadline_ms": 300.0,
    "diagnostics.input_timeout_s": 1.0,
}


FAULTS = {
    "two LiDARs, no fault": Fault("O300 +200 R20 S0 +100 R120 S100", (0, 100)),
    "further LiDAR silent": Fault(
        "O300 +200 R0 S0 +100 O1300 S600 +700 S1200 +1200", (0, 600, 1200), {"masked.rear:stale": 2},
        (r"no scan of rear on /rear/points for \d s",),
        (WARN, "lidar rear", "no scan on /rear/points"),
    ),
    "further LiDAR late": Fault(
        "O300 +200 S0 +100 R0 +50 R100 S100", (0, 100), {"masked.rear:stale": 1, "synchronizer.lidar_late:rear": 1}
    ),
    "main LiDAR silent": Fault(
        # The status is published once a second: more than that on the rear one alone, at the pace of the stamps.
        "O300 +200 R0 S0 +100 O1300 R100 +100 R300 +100 R600 +1300 "
        "O3000 R1700 +600 R2300 +600 R2900 +200 O3200 S3100 +100",
        (0, 600, 1700, 2300, 2900, 3100), {"masked.lidar:stale": 4, "synchronizer.lidar_led": 4, "masked.rear:stale": 1},
        (r"no scan on /lidar/points for \d s",),
        (WARN, "pipeline", "running on rear: no scan on /lidar/points"),
    ),
    "odometry stops": Fault(
        "O300 +200 R0 S0 +100 R900 S900 +400 R1300 S1300 +400 R1700 S1700 +400", (0, 900, 1300, 1700), {"deskew.no_pose": 3},
        (r"scans are not compensated for motion: the transform odom -> velodyne is known from .* to .* s, not at",),
        (WARN, "pipeline", "frames not compensated for motion, see parameter lidar.deskew"),
    ),
    "points without times": Fault(
        "O300 +200 R0:zero S0:zero +300", (0,), {"deskew.bad_time": 1}, ("field 'time' float32 is 0 for all points",)
    ),
    "further LiDAR unreadable": Fault(
        "O300 +200 R0:cut S0", (0,), {"masked.rear:unreadable_scan": 1}, ("rear is masked: /rear/points's data is truncated",)
    ),
}  # fmt: skip


SLOW = {"odometry stops", "points without times", "further LiDAR unreadable"}
"""Those that test_scans.py has as well, without a node."""


class TwoLidars(Car):
    """Sends scans of two LiDARs (S, R) and odometry (O), and keeps what the node publishes.

    O500 is odometry of the half second before 500 ms.
    """

    def __init__(self, node: Any) -> None:
        super().__init__(node)
        self._senders = {
            "S": (node.create_publisher(PointCloud2, "/lidar/points", 10), self._scan(main_scan)),
            "R": (node.create_publisher(PointCloud2, "/rear/points", 10), self._scan(rear_scan)),
            "O": (node.create_publisher(Odometry, "/odom", 200), None),
        }

    def connect(self, nodes: int = 1) -> None:
        assert self.spin_until(lambda: all(p.get_subscription_count() for p, _ in self._senders.values()))
        assert self.spin_until(lambda: self.node.count_publishers("/occupancy/voxels"))
        self.spin(0.3)

    def send(self, kind: str, milliseconds: int, how: str = "") -> int:
        if kind != "O":
            return super().send(kind, milliseconds, how)
        for when in range(milliseconds - 500, milliseconds + 1, 20):
            message = odometry(when / 1e3, "velodyne")
            message.header.stamp = time_from(self.base + when * MS)
            self._senders["O"][0].publish(message)
        return 0

    def _scan(self, make: Any) -> Any:
        def message(stamp: int, how: str) -> PointCloud2:
            scan, _ = make((stamp - self.base) / 1e9, columns=100)
            scan.header.stamp = time_from(stamp)
            if how == "zero":
                rows = np.frombuffer(bytes(scan.data), np.float32).reshape(-1, 5).copy()
                rows[:, 4] = 0
                scan.data = rows.tobytes()
            if how == "cut":
                scan.data = scan.data[:100]
            return scan

        return message


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, TwoLidars]]:
    """One node with two LiDARs for all faults."""
    folder = tmp_path_factory.mktemp("lidars")
    lively_bundle(folder / "bundle")
    arguments = node_arguments(folder / "bundle", Path(), **SETTINGS | {"calibration_file": ""})
    log = folder / "node.log"
    with pytest.MonkeyPatch.context() as patch, own_domain(patch), ready_node(arguments, log) as node, connected(TwoLidars) as car:
        yield node, car


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FAULTS])
def test_a_fault_degrades_and_does_not_stop(running: tuple[Process, TwoLidars], name: str) -> None:
    node, car = running
    fault = FAULTS[name]
    assert car.spin_until(lambda: car.values())
    car.spin(1.1)
    before, log = car.counts(), len(node.output)
    car.status.clear()
    car.play(fault.script, fault.out)
    wanted = [car.base + milliseconds * MS for milliseconds in fault.out]
    assert car.spin_until(lambda: [stamp for stamp in car.stamps if stamp >= car.base][: len(wanted)] == wanted), (
        [(stamp - car.base) / MS for stamp in car.stamps], node.output[log:])  # fmt: skip
    assert car.spin_until(lambda: car.lost(before) == fault.lost, 4), (car.lost(before), node.output[log:])
    for pattern in fault.said:
        assert car.spin_until(lambda pattern=pattern: re.search(pattern, node.output[log:]), 4), (pattern, node.output[log:])
    if fault.status:
        level, part, words = fault.status
        shown = [(s.level, s.message) for s in car.status if s.name == f"occupancy: {part}"]
        assert car.spin_until(lambda: any(
            s.level == level and words in s.message for s in car.status if s.name == f"occupancy: {part}"), 3), shown  # fmt: skip
    assert "Traceback" not in node.output[log:]


def test_the_points_of_both_come_out(running: tuple[Process, TwoLidars]) -> None:
    node, car = running
    car.play("O300 +200 R0 S0 +300 O800 S300 +400", (0, 300))
    both, alone = car.base, car.base + 300 * MS
    assert car.spin_until(lambda: {both, alone} <= car.widths.keys()), node.output
    assert car.widths[both] > car.widths[alone]
    assert "the points' times of rear: field 'time' float32: relative, in s; the stamp is the scan's start" in node.output


def test_a_latency_error_does_not_hide_that_the_main_lidar_is_silent(running: tuple[Process, TwoLidars]) -> None:
    node, car = running
    client = car.node.create_client(SetParameters, "/occupancy/set_parameters")
    assert car.spin_until(client.service_is_ready)

    def set_limit(milliseconds: float) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=milliseconds)
        request = SetParameters.Request(parameters=[Parameter(name="diagnostics.latency_error_ms", value=value)])
        future = client.call_async(request)
        assert car.spin_until(future.done) and future.result().results[0].successful

    set_limit(0.0)
    try:
        car.status.clear()
        car.play("O300 +200 R0 S0 +100 O1300 R100 +100 R300 +100 R600 +1300 O3000 R1700", (0, 600, 1700))
        both = re.compile(r"latency \d+ ms is over 0 ms; running on rear: no scan on /lidar/points for")
        assert car.spin_until(lambda: any(s.level == ERROR and both.search(s.message) for s in car.status), 4), node.output
    finally:
        set_limit(1000.0)


def test_every_fault_has_its_row() -> None:
    assert_rows("Several LiDARs and motion", FAULTS)
