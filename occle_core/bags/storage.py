# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The interface of a bag's storage files, and the error for bags that cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rosbags.typesys import Stores, get_typestore

from occle_core.errors import OccleError

TYPES = get_typestore(Stores.ROS2_KILTED)
"""Definitions of the standard message types."""


class BagError(OccleError, ValueError):
    """A bag that cannot be read, written or used; the message says which, where, why and the remedy."""


@dataclass(frozen=True)
class Channel:
    """One topic of one file.

    Args:
        topic: its name.
        msgtype: such as "sensor_msgs/msg/Image"; empty where the file does not say.
        encoding: of its messages; "cdr" in ROS 2.
        definition: text of the message type; empty where the file has none.
        definition_format: "ros2msg", "ros2idl", or another tool's.
        qos: the publishers' offers as the YAML text that rosbag2 writes; empty where the file has none.
        digest: hash of the message type; empty where the file has none.
    """

    topic: str
    msgtype: str
    encoding: str
    definition: str = ""
    definition_format: str = ""
    qos: str = ""
    digest: str = ""


class Storage(Protocol):
    """One file of a bag."""

    @property
    def channels(self) -> Mapping[int, Channel]:
        """By number."""

    @property
    def counts(self) -> Mapping[int, int]:
        """Messages by channel."""

    @property
    def start(self) -> int:
        """Time of the first message, nanoseconds; 0 without messages."""

    @property
    def end(self) -> int:
        """Time of the last message, nanoseconds; 0 without messages."""

    @property
    def cut_off(self) -> str:
        """Why the file ends before it was finished; empty for a whole file."""

    def messages(self, channels: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """(channel, time in nanoseconds, data) of these channels in time order.

        Raises:
            BagError: the file is damaged there.
        """

    def located(self, channels: Collection[int]) -> Iterator[tuple[int, int, Any, bytes]]:
        """(channel, time, place, data) as `messages`; a place is what `read` takes."""

    def read(self, place: Any) -> bytes:
        """One message.

        Raises:
            BagError: the file is damaged there, or has changed.
        """

    def close(self) -> None:
        """Close the file."""
