# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames of a bag, as the offline run assembles them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from occle_core.frame import Frame
from occle_ros.bags.reader import BagReader
from occle_ros.config.node_config import NodeConfig
from occle_ros.pipeline.assemble import assemble


def bag_frames(bag: Path, config: NodeConfig | None = None, image_size: tuple[int, int] | None = None) -> Iterator[Frame]:
    """Every frame, with a known calibration and readable images of all cameras."""
    reader = BagReader(bag, config)
    for synced in reader.synced():
        rig = reader.calibration.rig(synced.scan.header.frame_id, synced.stamp)
        assembled = assemble(synced, rig, reader.config, image_size=image_size)
        assert not rig.masked and not assembled.problems, (rig.problems, assembled.problems)
        yield assembled.frame
