# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Messages of a ROS 1 bag, read by the `rosbags` package and given as ROS 2 would write them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rosbags.convert.converter import migrate_bytes
from rosbags.rosbag1 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from occle_core.bags.storage import TYPES, BagError, Channel
from occle_core.console import one_line

_RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}


class Ros1File:
    """A Storage (`occle_core.bags.storage`). Messages of types that ROS 2 does not have are left out.

    Raises:
        BagError: not a ROS 1 bag, or damaged.
        OSError: it cannot be read.
    """

    cut_off = ""

    def __init__(self, path: Path) -> None:
        self._path, self._cache = path, dict[str, object]()
        self._reader = Reader(path)
        try:
            self._reader.open()
            self._types = get_typestore(Stores.EMPTY)
            for each in self._reader.connections:
                self._types.register(get_types_from_msg(each.msgdef.data, each.msgtype))
            self.channels = {each.id: _channel(each.topic, each.msgtype) for each in self._reader.connections}
            self.counts = {each.id: each.msgcount for each in self._reader.connections}
            self.start, self.end = self._reader.start_time, self._reader.end_time - 1
        except OSError:
            raise
        except Exception as error:  # rosbags lets through whatever the bytes provoke
            raise self._damaged(error) from error
        self._connections = {each.id: each for each in self._reader.connections}

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def messages(self, channels: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """(channel, time, data) in time order."""
        for channel, time, _, data in self.located(channels):
            yield channel, time, data

    def located(self, channels: Collection[int]) -> Iterator[tuple[int, int, Any, bytes]]:
        """(channel, time, place, data) in time order; a place is the channel, the time and the number among equal times."""
        last: dict[int, tuple[int, int]] = {}
        for channel, time, raw in self._raw(channels):
            before, number = last.get(channel, (-1, 0))
            last[channel] = (time, number + 1 if before == time else 0)
            yield channel, time, (channel, time, last[channel][1]), self._convert(channel, raw)

    def read(self, place: Any) -> bytes:
        """The message at a place of `located`."""
        channel, time, number = place
        found = [raw for _, _, raw in self._raw([channel], time, time + 1)]
        if number >= len(found):
            raise self._damaged(f"a message of {self.channels[channel].topic} is gone")
        return self._convert(channel, found[number])

    def _raw(
        self, channels: Collection[int], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[int, int, bytes]]:
        try:
            for connection, time, raw in self._reader.messages([self._connections[channel] for channel in channels], start, stop):
                yield connection.id, time, raw
        except (OSError, BagError):
            raise
        except Exception as error:
            raise self._damaged(error) from error

    def _convert(self, channel: int, raw: bytes) -> bytes:
        name, given = self.channels[channel].msgtype, self._connections[channel].msgtype
        try:
            return bytes(migrate_bytes(self._types, TYPES, given, name, self._cache, raw, src_is2=False, dst_is2=True))
        except Exception as error:
            raise self._damaged(f"a message of {self.channels[channel].topic} is no {name}: {one_line(error)}") from error

    def _damaged(self, why: Any) -> BagError:
        return BagError(f"{self._path} is no whole ROS 1 bag: {one_line(why)}; `rosbag reindex` or `rosbag fix` may repair it")


def _channel(topic: str, msgtype: str) -> Channel:
    name = _RENAMED.get(msgtype, msgtype)
    return Channel(topic, name, "cdr" if name in TYPES.fielddefs else "ROS 1's")
