# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Replay of a data set folder, without conversion to a bag.

It publishes clouds, images, CameraInfo, /clock and, where tf2_msgs is installed, /tf and /tf_static, on the topics of the presets.
The node finds the extrinsics with `calibration_file:=FOLDER` (`FOLDER#SCENE`), or in TF.
"""

from __future__ import annotations

from pathlib import Path

from occle_core.console import print_notice
from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_ros.bags.dataset_messages import DatasetMessages
from occle_ros.bags.player import PlayOptions, PlaySummary, play_source


def play_dataset(
    path: Path,
    options: PlayOptions,
    kind: str | None = None,
    scene: str | None = None,
    compressed: bool | None = None,
    limit: int | None = None,
) -> PlaySummary:
    """Publish a sequence of a data set at its recorded rate; ends after the last frame, or on SIGINT or SIGTERM.

    Args:
        path, kind, scene: as for `occle_core.datasets.open_dataset`; without `scene` the first one, said where there are several.
        options: of the replay.
        compressed, limit: as for `occle_ros.bags.dataset_messages.DatasetMessages`.

    Raises:
        DatasetError, BagError: the data set is incomplete, damaged or cannot be published.
        PlayError, TransportError: as for `occle_ros.bags.player.play_source`.
    """
    if scene is None:
        scene, *others = list_scenes(path, kind)
        if others:
            several = ", ".join((scene, *others[:9])) + (", ..." if others[9:] else "")
            print_notice(f"{path} holds {1 + len(others)} sequences: {several}; playing {scene}; choose another with --scene")
    dataset = open_dataset(path, kind, scene)
    source = DatasetMessages(dataset, compressed, limit)
    if source.shifted_frames:
        print_notice(f"the stamps of {source.shifted_frames} frames were shifted")
    return play_source(source, options)


def is_dataset(path: Path) -> bool:
    """True for a JSON file, and for a folder without metadata.yaml and storage files (.mcap, .db3) of a bag.

    Raises:
        DatasetError: nothing is there.
    """
    if not path.exists():
        raise DatasetError(f"there is no bag or data set at {path}")
    if not path.is_dir():
        return path.suffix == ".json"
    return not any(file.name == "metadata.yaml" or {".mcap", ".db3"} & set(file.suffixes[-2:]) for file in path.iterdir())
