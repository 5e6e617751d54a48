# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames to measure a GPU on: simulated streets where the simulator is installed, made-up ones elsewhere; and their messages."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset, list_scenes, open_dataset
from occle_core.engines.choice.timing import synthetic_frame
from occle_core.frame import Frame

DRIVES, PER_DRIVE = 4, 5
"""Simulated in as many processes; as many frames in a row as the largest network looks at."""
TINY_POINTS = 2000


class FrameSource:
    """Frames by rig, made once.

    Args:
        folder: where simulated drives are kept.
        tiny: few points and small images.
        made_up: never simulate.
    """

    def __init__(self, folder: Path, tiny: bool, made_up: bool) -> None:
        self._folder, self._tiny, self._made_up = folder, tiny, made_up
        self._datasets: dict[str, list[Dataset]] = {}
        self._notes: dict[str, str] = {}

    def describe(self) -> str:
        """What the frames are."""
        return "; ".join(f"{rig}: {note}" for rig, note in self._notes.items()) or "none"

    def datasets(self, rig: str) -> list[Dataset]:
        """The simulated drives of a rig; none where frames are made up."""
        if rig not in self._datasets:
            self._datasets[rig] = [] if self._made_up else self._simulated(rig)
            self._notes.setdefault(rig, "simulated streets" if self._datasets[rig] else "made up")
        return self._datasets[rig]

    def samples(self, spec: BundleSpec, count: int) -> list[list[Frame]]:
        """Samples of a network: the present frame and as many before it as the network looks at, newest first."""
        rig = "nuscenes" if spec.taxonomy == "occ3d_nuscenes" else "kitti"
        length = spec.network.num_frames
        found = []
        for number in range(count):
            datasets = self.datasets(rig)
            if not datasets:
                frame = synthetic_frame(spec, TINY_POINTS if self._tiny else 60_000, number)
                found.append([frame] * length)
                continue
            dataset = datasets[number % len(datasets)]
            last = len(dataset) - 1 - number // len(datasets) % len(dataset)
            found.append([dataset.frame(max(0, last - past)) for past in range(length)])
        return found

    def _simulated(self, rig: str) -> list[Dataset]:
        folder = self._folder / f"drives_{rig}"
        try:
            if not folder.is_dir():
                from occle_train.streets import simulate

                print(f"simulating {DRIVES} drives of the {rig} rig into {folder}", flush=True)
                simulate(folder, rig, DRIVES, PER_DRIVE, seed=7, workers=min(DRIVES, os.cpu_count() or 1))
            return [open_dataset(folder, scene=name) for name in list_scenes(folder)]
        except Exception as error:  # of a package that is missing, in whatever way it says so
            self._notes[rig] = f"made up, because the simulator does not run: {type(error).__name__}: {error}"
            print(self._notes[rig], flush=True)
            return []


def messages_of(frame: Frame, jpeg: bool, size: tuple[int, int] | None = None) -> tuple[Any, tuple[Any, ...], Frame]:
    """A scan and images as ROS messages look, and the frame whose cameras they are of.

    Args:
        frame: with an image of every camera.
        jpeg: compressed images; else raw ones.
        size: (width, height) that images are resized to first.
    """
    if size is not None:
        images = [None if image is None else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) for image in frame.images]
        frame = replace(frame, images=images, cameras=[camera.resized(*size) for camera in frame.cameras])
    header = SimpleNamespace(frame_id="lidar", stamp=SimpleNamespace(sec=0, nanosec=0))
    fields = [SimpleNamespace(name=name, offset=4 * n, datatype=7, count=1) for n, name in enumerate(("x", "y", "z", "intensity"))]
    points = np.ascontiguousarray(frame.points)
    scan = SimpleNamespace(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False, point_step=16,
        row_step=16 * len(points), data=points.tobytes(), is_dense=True,
    )  # fmt: skip
    return scan, tuple(_image_message(image, jpeg, header) for image in frame.images), frame


def _image_message(image: Any, jpeg: bool, header: Any) -> Any:
    if image is None:
        return None
    if jpeg:
        data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        return SimpleNamespace(header=header, format="jpeg", data=data)
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image).tobytes()
    return SimpleNamespace(header=header, encoding="rgb8", width=width, height=height, step=3 * width, is_bigendian=0, data=data)
