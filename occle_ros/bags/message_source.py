# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Protocol of the player's message sources, and its implementation for bags."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from rosbags.interfaces import Connection, QosDurability

from occle_core.bags.bag_file import BagFile


class MessageSource(Protocol):
    """Messages in time order: `BagMessages`, or `occle_ros.bags.dataset_messages.DatasetMessages`."""

    @property
    def topics(self) -> Mapping[str, str]:
        """Topic -> message type."""

    @property
    def start(self) -> int:
        """Time of the first message, nanoseconds."""

    @property
    def end(self) -> int:
        """Time of the last message, nanoseconds."""

    def is_latched(self, topic: str) -> bool:
        """True if late subscribers get the topic's last message (transient_local)."""

    def messages(self, topics: Collection[str]) -> Iterator[tuple[int, str, bytes]]:
        """(time, topic, CDR bytes) of these topics in time order."""


class BagMessages:
    """Messages of a bag."""

    def __init__(self, reader: BagFile) -> None:
        self._reader = reader
        self.topics = {connection.topic: connection.msgtype for connection in reader.connections}
        self.start, self.end = reader.start_time, reader.end_time
        self._latched = {connection.topic for connection in reader.connections if _is_latched(connection)}

    def is_latched(self, topic: str) -> bool:
        """As `MessageSource`."""
        return topic in self._latched

    def messages(self, topics: Collection[str]) -> Iterator[tuple[int, str, bytes]]:
        """As `MessageSource`."""
        connections = [c for c in self._reader.connections if c.topic in topics and self.topics[c.topic] == c.msgtype]
        return ((time, c.topic, data) for c, time, data in self._reader.messages(connections))


def _is_latched(connection: Connection) -> bool:
    offered = getattr(connection.ext, "offered_qos_profiles", [])
    return connection.topic.endswith("/tf_static") or any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in offered)
