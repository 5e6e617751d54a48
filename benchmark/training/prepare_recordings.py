# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Time, memory and disk of `occle-train prepare`, `label --cells` and `review`: `python -m benchmark.training.prepare_recordings`.

Frames are KITTI's size: 120,000 points, one image. With OMP_NUM_THREADS=1 the times are those of one thread.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from occle_train.data.prepare import Thinning, prepare
from occle_train.pseudo_labels.cell_folder import CellConfig, CellFolder, grid_of, write_cells
from occle_train.pseudo_labels.label_folder import LabelFolder, label_file
from occle_train.review.page import write_page
from occle_train.streets.writing.bag import POINT, make_header, make_message, pose_fields

from occle_core.bags.new_bag import new_bag
from occle_core.bags.storage import TYPES
from occle_core.datasets import open_dataset

POINTS, WIDTH, HEIGHT = 120_000, 1241, 376
RIG = """
base_frame: base_link
odometry: {topic: /odom}
lidars: {top: {topic: /points, pose: [0, 0, 1.7, 0, 0, 0]}}
cameras:
  front:
    topic: /image
    pose: [0, 0, 1.6, -90, 0, -90]
    width: 1241
    height: 376
    lens: {fx: 707.0, fy: 707.0, cx: 601.9, cy: 183.1}
    compressed: COMPRESSED
grid: {origin: [0, -25.6, -2], shape: [128, 128, 16], resolution: 0.4}
classes: semantickitti
"""
PLAN = 10_000
"""Frames of the plan."""


def write_recording(out: Path, frames: int, compressed: bool) -> None:
    """A bag of scans with times, images and odometry, all of the same content and their own stamps."""
    rng = np.random.default_rng(0)
    rows = np.zeros(POINTS, POINT)
    for name, low, high in (("x", -60, 60), ("y", -60, 60), ("z", -2, 3), ("intensity", 0, 1)):
        rows[name] = rng.uniform(low, high, POINTS)
    rows["t"] = np.linspace(0, 99_000_000, POINTS)
    fields = [make_message("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=kind, count=1)
              for name, offset, kind in (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7), ("t", 16, 6))]  # fmt: skip
    smooth = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8), (0, 0), 3)
    jpeg = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel()
    data = np.frombuffer(rows.tobytes(), np.uint8)
    with new_bag(out) as writer:
        topics = {"/points": "sensor_msgs/msg/PointCloud2", "/odom": "nav_msgs/msg/Odometry",
                  "/image": f"sensor_msgs/msg/{'CompressedImage' if compressed else 'Image'}"}  # fmt: skip
        connections = {topic: writer.add_connection(topic, kind, typestore=TYPES) for topic, kind in topics.items()}

        def write(topic: str, stamp: int, **values: object) -> None:
            message = make_message(topics[topic], **values)
            writer.write(connections[topic], stamp, bytes(TYPES.serialize_cdr(message, topics[topic])))

        for i in range(frames + 1):
            stamp = 10**18 + i * 100_000_000
            header, T = make_header(stamp, "top"), np.eye(4)
            T[0, 3] = i
            position, orientation = pose_fields(T)
            zero = make_message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
            twist = make_message("geometry_msgs/msg/Twist", linear=zero, angular=zero)
            pose = make_message(
                "geometry_msgs/msg/Pose", position=make_message("geometry_msgs/msg/Point", **position), orientation=orientation
            )
            write("/odom", stamp, header=make_header(stamp, "odom"), child_frame_id="base_link",
                  pose=make_message("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
                  twist=make_message("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)))  # fmt: skip
            if i == frames:
                break
            write("/points", stamp, header=header, height=1, width=POINTS, fields=fields, is_bigendian=False,
                  point_step=POINT.itemsize, row_step=POINT.itemsize * POINTS, data=data, is_dense=True)  # fmt: skip
            if compressed:
                write("/image", stamp, header=header, format="jpeg", data=jpeg)
            else:
                write("/image", stamp, header=header, height=HEIGHT, width=WIDTH, encoding="bgr8", is_bigendian=0, step=3 * WIDTH,
                      data=smooth.ravel())  # fmt: skip


def write_frames(folder: Path) -> Path:
    """`occle-train prepare`. Returns what it wrote."""
    prepare([folder / "bag"], folder / "frames", folder / "rig.yaml", Thinning(seconds=0))
    return folder / "frames"


def write_labels(folder: Path) -> Path:
    """`occle-train label --ready --cells`. Returns what it wrote."""
    dataset = open_dataset(folder / "frames")
    grid = grid_of([dataset])
    assert grid is not None
    write_cells(folder / "cells", [dataset], grid, LabelFolder(folder / "labels", dataset.taxonomy), CellConfig())
    return folder / "cells"


def write_review(folder: Path) -> Path:
    """`occle-train review`. Returns what it wrote."""
    dataset = open_dataset(folder / "frames")
    labels = LabelFolder(folder / "labels", dataset.taxonomy)
    write_page(folder / "review.html", [dataset], labels, CellFolder(folder / "cells"))
    return folder / "review.html"


def label_images(folder: Path) -> None:
    """Label images as a segmenter would make them: a band for each of eight classes."""
    dataset = open_dataset(folder / "frames")
    bands = np.repeat(np.arange(9, 17, dtype=np.uint8), HEIGHT // 8)[:, None].repeat(WIDTH, 1)
    for i in range(len(dataset)):
        file = label_file(folder / "labels", dataset, i, "front")
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), bands)


def measured(step: Callable[[Path], Path], folder: Path) -> tuple[float, float, float, int]:
    """CPU and wall seconds, peak memory in MB, and bytes written of a step."""
    began, cpu = time.perf_counter(), time.process_time()
    out = step(folder)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    files = [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return cpu, wall, peak, sum(file.stat().st_size for file in files)


def in_a_process(step: Callable[[Path], Path], folder: Path) -> tuple[float, float, float, int]:
    """`measured` in a process of its own, so that the memory is the step's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, step, folder).result()


def main() -> None:
    """Print a table: a row for each step, with what 10,000 frames need."""
    arguments = argparse.ArgumentParser(prog="python -m benchmark.training.prepare_recordings", description=__doc__)
    arguments.add_argument("--frames", type=int, default=200)
    frames = arguments.parse_args().frames
    print(f"| step, {frames} frames | CPU ms a frame | MB a frame | peak MB | {PLAN} frames: CPU hours | GB |")
    print("|---|---|---|---|---|---|")
    for compressed in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_recording(folder / "bag", frames, compressed)
            (folder / "rig.yaml").write_text(RIG.replace("COMPRESSED", str(compressed).lower()))
            steps = [(f"prepare, {'JPEG' if compressed else 'raw'} images", write_frames)]
            if compressed:
                steps += [("label --cells", write_labels), ("review", write_review)]
            for title, step in steps:
                cpu, _, peak, size = in_a_process(step, folder)
                if step is write_frames:
                    label_images(folder)
                row = 1e3 * cpu / frames, size / frames / 1e6, peak, PLAN * cpu / frames / 3600, PLAN * size / frames / 1e9
                print("| {} | {:.0f} | {:.3f} | {:.0f} | {:.2f} | {:.1f} |".format(title, *row), flush=True)


if __name__ == "__main__":
    main()
