# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checks of a bag against its rig file: topics, types, clocks, and topics that stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core.console import shell_quote
from occle_core.datasets.base import DatasetError
from occle_core.datasets.recordings.bag_index import CLOUD, COMPRESSED, IMAGE, BagIndex, TopicIndex
from occle_core.rig import Rig

OTHER_CLOCK = 5.0
"""Seconds between the times of two sensors from which they have different clocks."""
STOPPED = 2.0
"""Seconds before the end of the leading LiDAR from which a topic counts as stopped."""


def check_topics(rig: Rig, index: BagIndex, bag: Path, rig_file: Path) -> None:
    """Make sure that the bag has the rig's topics, of the right types, with messages.

    Raises:
        DatasetError: it does not; one line that names the first field and its remedy.
    """
    draft = f"`occle rig {shell_quote(bag)} -o rig.yaml` drafts a rig file of this bag"
    wanted = [(f"lidars.{name}", lidar.topic, CLOUD) for name, lidar in rig.lidars.items()]
    wanted += [(f"cameras.{name}", c.topic, COMPRESSED if c.compressed else IMAGE) for name, c in rig.cameras.items()]
    for field, topic, kind in wanted:
        found = index.kinds.get(topic)
        if found is None:
            of_kind = [name for name, each in index.kinds.items() if each in ((CLOUD,) if kind == CLOUD else (IMAGE, COMPRESSED))]
            there = ", ".join(sorted(of_kind)) or "none"
            raise DatasetError(f"{bag} has no topic {topic} ({field}.topic in {rig_file}); of that kind it has {there}; {draft}")
        if found != kind:
            hint = f"set {field}.compressed: {str(found == COMPRESSED).lower()}" if found in (IMAGE, COMPRESSED) else draft
            if kind == CLOUD:
                hint = "let the driver publish PointCloud2 (Livox: xfer_format 0), or name another topic"
            raise DatasetError(f"{bag}: {topic} ({field}.topic in {rig_file}) is {found}, not {kind}; {hint}")
        if topic not in index.topics:
            raise DatasetError(
                f"{bag} has no message of {topic} ({field}.topic in {rig_file}); leave {field} out, or record it again"
            )


def check_clocks(
    rig: Rig, topics: Mapping[str, TopicIndex], stamps: Mapping[str, NDArray[np.int64]], bag: Path, rig_file: Path
) -> list[str]:
    """Compare the sensors' clocks.

    Args:
        rig: topics and tolerances.
        topics: messages by topic.
        stamps: by topic, with the offsets added.
        bag, rig_file: for the texts.

    Returns:
        Notes: topics that stop, and sensors that seldom have a message near a scan.

    Raises:
        DatasetError: stamps that are all zero, or of another clock than the leading LiDAR's.
    """
    lead = stamps[rig.lead.topic]
    notes = []
    sensors = [(f"lidars.{name}", each.topic, rig.tolerances.lidar_ms) for name, each in rig.lidars.items()]
    sensors += [(f"cameras.{name}", each.topic, rig.tolerances.camera_ms) for name, each in rig.cameras.items()]
    lag = np.median(topics[rig.lead.topic].recorded - lead)
    for field, topic, tolerance in sensors:
        own = stamps[topic]
        if not topics[topic].stamps.any():
            raise DatasetError(f"{bag}: all stamps of {topic} are 0; set header.stamp in the driver and record it again")
        apart = max(int(own[0] - lead[-1]), int(lead[0] - own[-1])) / 1e9
        if apart > OTHER_CLOCK:
            shift = (float(np.median(topics[topic].recorded - own)) - float(lag)) / 1e6
            raise DatasetError(
                f"{bag}: {topic} has another clock than {rig.lead.topic}: their stamps lie {apart:.1f} s apart; record with one "
                f"clock (PTP, chrony), or, if they were recorded together, set {field}.time_offset_ms to about {shift:.0f} "
                f"in {rig_file}"
            )
        if (early := (int(lead[-1]) - int(own[-1])) / 1e9) > STOPPED:
            notes.append(f"{topic} stops {early:.1f} s before {rig.lead.topic}: {field} is left out of the frames after")
        near = np.abs(own[np.clip(np.searchsorted(own, lead), 1, max(len(own) - 1, 1)) - 1] - lead)
        after = np.abs(own[np.clip(np.searchsorted(own, lead), 0, len(own) - 1)] - lead)
        share = float((np.minimum(near, after) <= tolerance * 1_000_000).mean())
        if share < 0.5:
            typical = float(np.median(np.minimum(near, after))) / 1e6
            notes.append(
                f"{topic} has a message within {tolerance:g} ms of {share:.0%} of the scans only (the nearest is {typical:.0f} "
                f"ms away as a rule): set {field}.time_offset_ms, or tolerances in {rig_file}"
            )
    return notes
