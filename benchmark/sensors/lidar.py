# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Cost and accuracy of motion compensation: `python -m benchmark.sensors.lidar --write docs/how_to/lidar.md`.

Costs are processor time of one thread, for a scan of 120,000 points and a second one of 60,000. Accuracy: simulated streets, the
sensor moves at 10 m/s and turns by 30 degrees per second. With `--real`, KISS-ICP's poses against SemanticKITTI's.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from occle_train.streets.drive import Drive
from occle_train.streets.moving_scan import moving_scan

from benchmark.machine import machine
from benchmark.page import add_write_option, publish
from occle_core.datasets import Dataset, list_scenes, open_dataset
from occle_core.geometry.trajectory import Trajectory, exp_se3
from occle_core.native import library
from occle_core.sensors.clouds import scan_from_cloud
from occle_core.sensors.deskew import deskew, motion_table
from occle_core.sensors.lidar_odometry import LidarOdometry
from occle_core.sensors.merge import SensorScan, merge_scans
from occle_core.sensors.transforms import TransformBuffer

DURATION, SPEED, TURN = 0.1, 10.0, np.radians(30)
POINTS, SECOND_POINTS = 120_000, 60_000
T_FIRST_SECOND = exp_se3(np.array([[-1.0, 0.4, -0.3, 0.05, 0.1, 2.5]]))[0]


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.sensors.lidar", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--real", type=Path, help="SemanticKITTI folder")
    add_write_option(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = shlex.join(["python", "-m", "benchmark.sensors.lidar", *(["--real", "DATA"] if given.real else [])])
    lines = [f"`{command}`; {machine(1)}.", "", *costs(given.runs), "", *accuracy()]
    if given.real:
        lines += ["", *registration(given.real)]
    publish("\n".join(lines), "benchmark.sensors.lidar", given.write)
    return 0


def curve(T: NDArray[np.float64] | None = None) -> Trajectory:
    """Poses every 10 ms."""
    seconds = np.arange(-10, 31) / 100
    steps = exp_se3(np.array([[SPEED, 0, 0, 0, 0, TURN]]) * seconds[:, None])
    return Trajectory(np.round(seconds * 1e9).astype(np.int64), steps if T is None else T @ steps)


def costs(runs: int) -> Iterator[str]:
    """Table of milliseconds."""
    trajectory, buffer = curve(), _transforms(curve())
    first, second = _scan(POINTS, 0, None), _scan(SECOND_POINTS, 20_000_000, T_FIRST_SECOND)
    message = _message(first)
    table = motion_table(trajectory, 0, 0.0, DURATION, 0)
    out = np.empty((POINTS, 4), np.float32)
    stages: dict[str, Callable[[], object]] = {
        "read x, y, z, intensity and time of 120,000 points (22 bytes each)": lambda: scan_from_cloud(message),
        "look up 11 poses in TF": lambda: [buffer.lookup("odom", "lidar", k * 10_000_000) for k in range(11)],
        "interpolate them to a table of 1,025": lambda: motion_table(trajectory, 0, 0.0, DURATION, 0),
        "move 120,000 points": lambda: deskew(first.points, first.offsets, table, out),
        "merge two LiDARs, 120,000 and 60,000 points, both compensated": lambda: merge_scans([first, second], 0, trajectory),
    }
    yield "| one thread, milliseconds of the processor (median, 95 %) | compiled kernels | numpy |"
    yield "|---|---|---|"
    for name, stage in stages.items():
        library.load()
        compiled = _time(stage, runs)
        with patch.dict(os.environ, {library.VARIABLE: "off"}):  # numpy alone
            plain = _time(stage, runs)
        yield f"| {name} | {compiled} | {plain} |"


def accuracy() -> Iterator[str]:
    """Table of distances, simulated streets."""
    yield "| simulated streets, 10 m/s and 30 degrees/s | distance from the sensor | as measured | compensated |"
    yield "|---|---|---|---|"
    errors: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for number in range(3):
        drive = Drive("kitti", 41, number, 1, 0.05)
        snapshot = drive.snapshot(0)[0]
        trajectory = curve(drive.base_pose(0) @ drive.rig.T_base_lidar)
        found, offsets = moving_scan(
            snapshot, replace(drive.rig.lidar, range_noise=0.0), trajectory, 0, DURATION, np.random.default_rng(number)
        )
        poses = trajectory.at(np.round(offsets.astype(np.float64) * 1e9).astype(np.int64))
        world = np.einsum("nij,nj->ni", poses[:, :3, :3], found.points[:, :3].astype(np.float64)) + poses[:, :3, 3]
        inverse = np.linalg.inv(trajectory.at([0])[0])
        truth = world @ inverse[:3, :3].T + inverse[:3, 3]
        moved = deskew(found.points, offsets, motion_table(trajectory, 0, 0.0, DURATION, 0))
        distance = np.linalg.norm(truth, axis=1)
        for low, high in ((0, 10), (15, 25), (25, 80)):
            rows = (distance >= low) & (distance < high)
            pair = [np.linalg.norm(points[rows, :3] - truth[rows], axis=1) for points in (found.points, moved)]
            errors.setdefault((low, high), []).append(np.stack(pair))
    for (low, high), parts in errors.items():
        raw, moved = np.concatenate(parts, axis=1)
        text = [f"mean {e.mean():.{places}f} m, largest {e.max():.{places}f} m" for e, places in ((raw, 2), (moved, 4))]
        yield f"| {raw.size:,} points of three scans, from the scan's first firing | {low}-{high} m | {text[0]} | {text[1]} |"


def registration(path: Path) -> Iterator[str]:
    """Table of KISS-ICP's poses against the recorded ones, between consecutive scans."""
    yield "| SemanticKITTI | scans | step | translation off (mean, largest) | rotation off | after the last |"
    yield "|---|---|---|---|---|---|"
    for name in list_scenes(path):
        dataset = open_dataset(path, scene=name)
        if dataset.numbers != list(range(dataset.numbers[0], dataset.numbers[0] + len(dataset))):
            print(f"{name}: the scans are not consecutive", file=sys.stderr)
            continue
        yield _registered(name, dataset)


def _registered(name: str, dataset: Dataset) -> str:
    odometry = LidarOdometry(min_range=5.0)
    found = [odometry.add(dataset.points(i), dataset.stamps[i]) for i in range(len(dataset))]
    given = [pose for i in range(len(dataset)) if (pose := dataset.pose(i)) is not None]
    steps, off, turn = [], [], []
    for i in range(1, len(found)):
        own, right = np.linalg.inv(found[i - 1]) @ found[i], np.linalg.inv(given[i - 1]) @ given[i]
        error = np.linalg.inv(own) @ right
        steps.append(np.linalg.norm(right[:3, 3]))
        off.append(100 * np.linalg.norm(error[:3, 3]))
        turn.append(np.degrees(np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1))))
    last = np.linalg.inv(np.linalg.inv(found[0]) @ found[-1]) @ np.linalg.inv(given[0]) @ given[-1]
    end = f"{100 * np.linalg.norm(last[:3, 3]):.0f} cm of {np.sum(steps):.1f} m"
    text = f"{np.mean(steps):.2f} m | {np.mean(off):.1f} cm, {np.max(off):.1f} cm | {np.mean(turn):.2f} deg | {end}"
    return f"| {name} | {len(found)} | {text} |"


def _scan(points: int, stamp: int, T: NDArray[np.float64] | None) -> SensorScan:
    rng = np.random.default_rng(points)
    xyzi = np.hstack([rng.normal(0, 20, (points, 3)), rng.random((points, 1))]).astype(np.float32)
    offsets = np.tile(np.linspace(0, DURATION, points // 60, dtype=np.float32), 60)  # ring by ring
    return SensorScan(xyzi, stamp, offsets, 0.0, DURATION, T)


def _message(scan: SensorScan) -> SimpleNamespace:
    """Laid out as Velodyne's driver does it."""
    names, codes, offsets = ("x", "y", "z", "intensity", "ring", "time"), ("f4",) * 4 + ("u2", "f4"), (0, 4, 8, 12, 16, 18)
    rows = np.zeros(len(scan.points), np.dtype({"names": names, "formats": codes, "offsets": offsets, "itemsize": 22}))
    for number, name in enumerate(names[:4]):
        rows[name] = scan.points[:, number]
    rows["time"] = scan.offsets
    kinds = {"f4": 7, "u2": 4}
    fields = [SimpleNamespace(name=n, datatype=kinds[c], offset=o, count=1) for n, c, o in zip(names, codes, offsets)]
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="lidar")
    return SimpleNamespace(header=header, height=1, width=len(rows), fields=fields, point_step=22, row_step=22 * len(rows),
                           is_bigendian=False, data=rows.tobytes())  # fmt: skip


def _transforms(trajectory: Trajectory) -> TransformBuffer:
    """TF of the trajectory: the base moves, the LiDAR is mounted on it."""
    buffer = TransformBuffer()
    for stamp, T in zip(trajectory.stamps.tolist(), trajectory.poses):
        buffer.add(_transform("odom", "base_link", T, stamp))
    buffer.add(_transform("base_link", "lidar", np.eye(4), 0), fixed=True)
    return buffer


def _transform(parent: str, child: str, T: NDArray[np.float64], stamp: int) -> SimpleNamespace:
    yaw = float(np.arctan2(T[1, 0], T[0, 0]))
    rotation = SimpleNamespace(x=0.0, y=0.0, z=np.sin(yaw / 2), w=np.cos(yaw / 2))
    translation = SimpleNamespace(x=T[0, 3], y=T[1, 3], z=T[2, 3])
    sec, nanosec = divmod(stamp, 1_000_000_000)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=parent)
    one = SimpleNamespace(
        header=header, child_frame_id=child, transform=SimpleNamespace(translation=translation, rotation=rotation)
    )
    return SimpleNamespace(transforms=[one])


def _time(stage: Callable[[], object], runs: int) -> str:
    for _ in range(5):
        stage()
    taken = []
    for _ in range(runs):
        began = time.thread_time()  # of the processor: other work on the machine does not count
        stage()
        taken.append((time.thread_time() - began) * 1e3)
    return f"{np.median(taken):.2f}, {np.percentile(taken, 95):.2f}"


if __name__ == "__main__":
    sys.exit(main())
