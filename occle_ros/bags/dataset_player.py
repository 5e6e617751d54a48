"""Replay of a raw data set folder, without a bag in between: `python -m occle_ros.bags.dataset_player PATH`.

Publishes clouds, images, CameraInfo, /clock and, where tf2_msgs is installed, /tf and /tf_static, with the topics that the
configurations of config/ expect. The node finds the extrinsics with `calibration_file:=PATH` (`PATH#SCENE`), or in TF.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from occle_core.bags.storage import BagError
from occle_core.console import print_notice
from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.paths import expand_home
from occle_core.sensors.messages import ConversionError
from occle_ros.system.environment import TransportError, check_middleware

if TYPE_CHECKING:
    from occle_ros.bags.player import PlaySummary

KINDS = ("semantickitti", "kitti", "nuscenes", "streets")


def play_dataset(
    path: Path,
    kind: str | None = None,
    scene: str | None = None,
    compressed: bool | None = None,
    limit: int | None = None,
    rate: float = 1.0,
    loop: bool = False,
    clock_hz: float = 100.0,
    wait_for: Sequence[str] = (),
    best_effort: bool = False,
    wait_seconds: float = 15.0,
) -> PlaySummary:
    """Publish a sequence of a data set at its recorded pace; ends after the last frame, or on SIGINT or SIGTERM.

    Args:
        path, kind, scene: as for `occle_core.datasets.open_dataset`; without `scene` the first one.
        compressed, limit: as for `occle_ros.bags.dataset_messages.DatasetMessages`.
        rate, loop, clock_hz, wait_for, best_effort, wait_seconds: as for `occle_ros.bags.player.play`.

    Raises:
        DatasetError, BagError: something in the data set is missing, broken or not to be published.
        PlayError, TransportError: as for `occle_ros.bags.player.play`.
    """
    from occle_ros.bags.dataset_messages import DatasetMessages  # imports rclpy, and `main` has to look at the middleware before
    from occle_ros.bags.player import play_source

    dataset = open_dataset(path, kind, scene or first_scene(path, kind))
    source = DatasetMessages(dataset, compressed, limit)
    if source.moved:
        print_notice(f"the stamps of {source.moved} frames were moved")
    return play_source(source, rate, loop, clock_hz, wait_for, best_effort, wait_seconds=wait_seconds)


def first_scene(path: Path, kind: str | None = None) -> str:
    """The name of the first sequence at a path.

    Raises:
        DatasetError: the path holds nothing that is known.
    """
    return list_scenes(path, kind)[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: exit code 0 at the end of the replay, 1 with a message on stderr where it cannot be."""
    parser = argparse.ArgumentParser("occle_ros.bags.dataset_player", description="Replay a raw data set folder as ROS 2 topics.")
    parser.add_argument("path", type=expand_home, help="folder of the data set or of one sequence")
    parser.add_argument("--kind", choices=KINDS, help="layout of the data set; default: guessed")
    parser.add_argument("--scene", help="which sequence, where there are several; default: the first")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--compressed", action="store_true", default=None, help="publish images as on disk (JPEG, PNG)")
    images.add_argument("--raw", dest="compressed", action="store_false", help="publish decoded images")
    parser.add_argument("--limit", type=int, help="only the first so many frames")
    parser.add_argument("--rate", type=float, default=1.0, help="2 plays twice as fast")
    parser.add_argument("--loop", action="store_true", help="begin again at the end")
    parser.add_argument("--clock", type=float, default=100.0, help="how often a second /clock is published; 0: never")
    parser.add_argument("--wait-for", action="append", default=[], metavar="TOPIC", help="begin when this has a subscriber")
    parser.add_argument("--wait-seconds", type=float, default=15.0, help="how long to wait for those")
    parser.add_argument("--best-effort", action="store_true", help="publish clouds and images best effort")
    given = parser.parse_args(arguments)
    try:
        check_middleware()
    except TransportError as error:
        print_notice(f"data set player: {error}")
        return 1
    from occle_ros.bags.player import PlayError

    try:
        play_dataset(
            given.path, given.kind, given.scene, given.compressed, given.limit, given.rate, given.loop, given.clock,
            given.wait_for, given.best_effort, given.wait_seconds,
        )  # fmt: skip
    except (DatasetError, BagError, PlayError, ConversionError, TransportError, OSError) as error:
        print_notice(f"data set player: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
