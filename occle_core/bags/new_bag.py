# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A new bag that appears when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from occle_core.bags.writer import BagWriter
from occle_core.output_folder import new_folder, output_exists_error


@contextmanager
def new_bag(out: Path) -> Iterator[BagWriter]:
    """Atomic rosbag2 writer (mcap): the folder appears at `out` when it is complete, and not after an error.

    Raises:
        OutputError: `out` exists already, or another process writes it.
    """
    if os.path.lexists(out):
        raise output_exists_error(out)
    with new_folder(out) as folder, BagWriter(folder, out.name) as writer:
        yield writer


def offered_qos(latched: bool = False, depth: int = 10) -> Qos:
    """Offered QoS in a bag's metadata: reliable; transient_local if `latched`."""
    forever = QosTime(2147483647, 4294967295)
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    keep, reliable, alive = QosHistory.KEEP_LAST, QosReliability.RELIABLE, QosLiveliness.AUTOMATIC
    return Qos(keep, depth, reliable, durability, forever, forever, alive, forever, False)
