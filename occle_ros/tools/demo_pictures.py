# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures and the page of a demo, from the messages that the node published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2

from occle_core import taxonomy
from occle_core.bags.bag_file import open_bag
from occle_core.bundle import read_spec
from occle_core.datasets import Dataset
from occle_core.sensors.messages import stamp_of
from occle_core.viewer.page import write_page
from occle_core.viewer.view_frame import ViewFrame, add_map
from occle_ros.messages.clouds import occupancy_from_cloud
from occle_ros.tools.offline_run import VOXELS
from occle_ros.tools.snapshots import evenly_spaced, write_snapshots

PAGE_FRAMES = 50
"""Maximum number of frames in the page, evenly spaced."""


class DemoPictures:
    """The published voxels of a demo beside the frames of its data set.

    Args:
        out: the demo's folder, with occupancy.mcap.
        dataset: what was played.
        bundle: the network.
        stamps: of the scans in the bag, by frame number.
    """

    def __init__(self, out: Path, dataset: Dataset, bundle: Path, stamps: Sequence[int]) -> None:
        self._out, self._dataset, self._spec = out, dataset, read_spec(bundle)
        self._classes = taxonomy.load(self._spec.taxonomy)
        self._numbers = {stamp: number for number, stamp in enumerate(stamps)}
        with open_bag(out / "occupancy.mcap") as reader:
            self._clouds = [raw for c, _, raw in reader.messages([c for c in reader.connections if c.topic == VOXELS])]

    def draw(self, pictures: int) -> list[Path]:
        """Draw pictures of evenly spaced frames; returns their pages."""
        pages = []
        for place in sorted(evenly_spaced(len(self._clouds), pictures)):
            shown = self._frame(place)
            name, cameras = f"frame_{shown.number:06d}", self._dataset.camera_names
            pages.append(write_snapshots(self._out / "pictures", name, shown.frame, cameras, shown.occupancy, shown.truth)[0])
        return pages

    def write_page(self, node: Mapping[str, Any]) -> Path | None:
        """Write OUT/page.html with images, voxels, truth and rolling map; None if nothing was published.

        Args:
            node: the node's report: its timings are shown where every published frame was recorded.
        """
        count = len(self._clouds)
        if not count:
            return None
        stages = {name: times for name, times in node["stages_ms"].items() if name != "receive" and len(times) == count}

        def frames() -> Iterator[ViewFrame]:
            for place in range(0, count, -(-count // PAGE_FRAMES)):
                shown = self._frame(place)
                timings = {name: float(times[place]) for name, times in stages.items()}
                yield replace(shown, occupancy=replace(shown.occupancy, timings=timings))

        title = f"{self._dataset.kind} {self._dataset.name}"
        return write_page(self._out / "page.html", add_map(frames()), title, f"occle demo, {node['bundle']}").path

    def _frame(self, place: int) -> ViewFrame:
        message = deserialize_message(self._clouds[place], PointCloud2)
        number = self._numbers[stamp_of(message)]
        occupancy = occupancy_from_cloud(message, self._spec.voxel_grid, self._classes)
        same_classes = self._dataset.taxonomy.name == self._classes.name
        truth = self._dataset.truth(number, self._spec.voxel_grid) if same_classes else None
        return ViewFrame.of(number, self._dataset.frame(number), self._dataset.camera_names, occupancy, truth)
