# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Converter of data sets to rosbag2 (mcap): the messages of `occle_ros.bags.dataset_messages`, and calibration.yaml.

`occle_ros.bags.reader` reads such bags, `occle_ros.bags.player` replays them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.progress import track

from occle_core.bags.new_bag import new_bag, offered_qos
from occle_core.bags.storage import TYPES
from occle_core.datasets import Dataset, open_dataset
from occle_core.frame import Frame
from occle_ros.bags.dataset_messages import DatasetMessages
from occle_ros.calibration.files import CALIBRATION_FILE


@dataclass(frozen=True)
class BagSummary:
    """Result of `convert`.

    Args:
        path: the bag's folder.
        frames: number of scans.
        messages: number of messages per topic.
        duration: seconds from the first to the last message.
        notes: shifted stamps, calibration that changes within the data set.
    """

    path: Path
    frames: int
    messages: dict[str, int]
    duration: float
    notes: tuple[str, ...]


def convert(
    kind: str | None,
    path: str | Path,
    out: str | Path,
    compressed: bool | None = None,
    limit: int | None = None,
    scene: str | None = None,
) -> BagSummary:
    """Write a sequence of a data set as a rosbag2 folder, atomically.

    Args:
        kind: semantickitti, kitti, nuscenes or streets; None guesses from the path.
        path: folder of the data set or the sequence.
        out: folder to make; it must not exist.
        compressed: True passes the data set's JPEG and PNG files through as CompressedImage, False decodes to raw rgb8.
            None: compressed for JPEG (nuScenes), raw for PNG (KITTI).
        limit: maximum number of frames.
        scene: name of the sequence, where the folder has several.

    Raises:
        DatasetError: something in the data set is missing or broken.
        OutputError: `out` exists. BagError: there is nothing to write.
    """
    content = DatasetMessages(open_dataset(Path(path), kind, scene), compressed, limit)
    counts: dict[str, int] = {}
    with new_bag(Path(out)) as writer:
        connections = {}
        for topic, message in content.topics.items():
            qos = [offered_qos(content.is_latched(topic))]
            connections[topic] = writer.add_connection(topic, message, typestore=TYPES, offered_qos_profiles=qos)
        for stamp, topic, data in track(content.messages(), "writing the bag", len(content.schedule), transient=True):
            writer.write(connections[topic], stamp, data)
            counts[topic] = counts.get(topic, 0) + 1
        (writer.path / CALIBRATION_FILE).write_text(_calibration_yaml(content.dataset, content.first_frame))
    notes = ([f"the stamps of {content.shifted_frames} frames were shifted"] if content.shifted_frames else []) + [
        f"{name}'s calibration moves by up to {metres * 100:.0f} cm between frames (motion between shutter and scan); the bag "
        "carries the first frame's"
        for name, metres in content.calibration_drift.items()
        if metres > 0.01
    ]
    return BagSummary(Path(out), content.frames, counts, (content.end - content.start) / 1e9, tuple(notes))


def _calibration_yaml(dataset: Dataset, frame: Frame) -> str:
    """Calibration of the first frame, for the node's parameter `calibration_file`."""
    cameras = {
        name: {
            "T_camera_lidar": camera.T_camera_lidar.tolist(),
            "K": camera.K.tolist(),
            "width": int(camera.width),
            "height": int(camera.height),
        }
        for name, camera in zip(dataset.camera_names, frame.cameras)
    }
    content = {
        "lidar_frame": dataset.lidar_frame,
        "grid_frame": dataset.grid_frame,
        "T_grid_lidar": np.asarray(dataset.T_grid_lidar).tolist(),
        "cameras": cameras,
    }
    text = "# T_a_b maps points from frame b to frame a (metres); K and sizes in pixels.\n"
    return text + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)
