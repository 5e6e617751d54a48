# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The examples do what they say, as processes of their own, on simulated frames and small untrained networks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from forked_python import ForkedPython, run_python
from node_rig import lively_bundle
from occle_train.evaluation.evaluate import evaluate
from rclpy.qos import QoSProfile
from ros_process import own_domain
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from occle_core.bundle import read_spec
from occle_core.datasets import open_dataset
from occle_core.geometry.grid import VoxelGrid
from occle_core.predictor import Predictor
from occle_core.taxonomy import load
from occle_ros.messages.clouds import cloud_from_points

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def streets(simulated: Callable[[str], Path]) -> Path:
    return simulated("kitti")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lively_bundle(tmp_path_factory.mktemp("bundles") / "lively")


def run(*arguments: str | Path, cwd: Path) -> str:
    """Output of an example, run with the checkout's packages."""
    path = os.pathsep.join([str(EXAMPLES.parent), str(EXAMPLES.parent / "training")])
    done = run_python(arguments, cwd=cwd, environment=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_script(*command: str | Path, cwd: Path) -> str:
    """Output of a shell script's commands of Python, which the script runs with programs that print how they were called."""
    scripts = cwd / "bin"
    scripts.mkdir()
    for name in ("python", "occle-train"):
        (scripts / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (scripts / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    calls = [line.removeprefix("python ").replace("occle-train ", "-m occle_train.cli ", 1) for line in done.stdout.splitlines()]
    assert len(calls) == 3
    return "".join(run(*call.split(), cwd=cwd) for call in calls)


def test_predict_frame_saves_a_page(streets: Path, bundle: Path, tmp_path: Path) -> None:
    said = run(EXAMPLES / "predict_frame.py", streets, "page.png", "--bundle", bundle, "--frame", "1", cwd=tmp_path)
    page = cv2.imread(str(tmp_path / "page.png"))
    assert page.shape[1] == 1600 and page.std() > 20
    expected = Predictor.load(bundle).predict(open_dataset(streets).frame(1))
    assert f"{len(expected.voxels()[0])} of {expected.labels.size} voxels" in said
    present = [expected.taxonomy.names[number] for number in np.unique(expected.voxels()[1])]
    assert present and all(f"  {name}, mean confidence" in said for name in present)


def test_evaluate_dataset_prints_the_scores(streets: Path, bundle: Path, tmp_path: Path) -> None:
    said = run(EXAMPLES / "evaluate_dataset.py", streets, "--bundle", bundle, "--every", "2", cwd=tmp_path)
    predictor = Predictor.load(bundle)
    dataset = open_dataset(streets)
    labels, truth = predictor.predict(dataset.frame(0)).labels, evaluate(predictor, [dataset], every=2)
    fine = dataset.truth(0, VoxelGrid((0.0, -25.6, -2.0), (256, 256, 32), 0.2))
    assert fine is not None
    # By hand, from the recorded cells: occupied where one of the eight known cells is, unknown where none is known.
    cells = fine.reshape(128, 2, 128, 2, 16, 2).transpose(0, 2, 4, 1, 3, 5).reshape(128, 128, 16, 8)
    known, solid = (cells != 255).any(-1), ((cells != 255) & (cells != 0)).any(-1)
    iou = (known & solid & (labels != 0)).sum() / (known & (solid | (labels != 0))).sum()
    assert truth["frames"] == 1 and f"IoU (occupied against free) {100 * iou:.2f} %" in said
    assert "1 frames of" in said and "traffic-sign" in said


def test_own_classes_train_score_and_predict(streets: Path, tmp_path: Path) -> None:
    script = EXAMPLES / "own_classes" / "train.sh"
    said = run_script(
        script, streets, "own", "--size", "tiny", "--steps", "24", "--set", "learning_rate=0.01", "--threads", "1", cwd=tmp_path
    )
    spec = read_spec(tmp_path / "own")
    assert load(spec.taxonomy).names == ("free", "drivable", "ground", "vehicle", "person", "structure")
    assert "drivable" in said and "mIoU" in said
    assert (tmp_path / "own.png").stat().st_size > 10_000


@pytest.mark.ros
def test_own_node_answers_a_scan(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.stack(np.meshgrid(np.arange(4, 24, 0.5), np.arange(-9, 9, 0.5), [-1.5, 0.5]), -1).reshape(-1, 3)
    points = np.hstack([grid, np.full((len(grid), 1), 0.5)]).astype(np.float32)
    with own_domain(monkeypatch):
        environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
        command = [EXAMPLES / "own_node.py", "--ros-args", "-p", f"bundle:={bundle}", "-p", "points:=/scan"]
        child = ForkedPython(command, tmp_path / "log", environment=environment)
        context = rclpy.Context()
        rclpy.init(context=context)
        try:
            node = rclpy.create_node("talker", context=context)
            executor = rclpy.executors.SingleThreadedExecutor(context=context)
            executor.add_node(node)
            heard: dict[str, list[object]] = {"classes": [], "voxels": []}
            node.create_subscription(String, "/own_node/classes", heard["classes"].append, 10)
            node.create_subscription(PointCloud2, "/own_node/voxels", heard["voxels"].append, 10)
            publisher = node.create_publisher(PointCloud2, "/scan", QoSProfile(depth=1))
            end = time.monotonic() + 60
            while not all(heard.values()) and time.monotonic() < end and child.poll() is None:
                publisher.publish(cloud_from_points(points, 5_000_000_000, "lidar"))
                executor.spin_once(timeout_sec=0.5)
            assert all(heard.values()), (tmp_path / "log").read_text()
        finally:
            rclpy.shutdown(context=context)
            child.send_signal(signal.SIGTERM)
            child.wait(20)
    voxels, text = heard["voxels"][0], heard["classes"][0].data  # type: ignore[attr-defined]
    assert (voxels.header.frame_id, voxels.header.stamp.sec) == ("lidar", 5)  # type: ignore[attr-defined]
    assert voxels.width == sum(int(part.rsplit(" ", 1)[1]) for part in text.split(", ")) > 100  # type: ignore[attr-defined]
