# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Messages of an mcap file in time order; every chunk is checked against its length and checksum before one goes out."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path

from mcap.records import Chunk, Message

from occle_core.bags.mcap_index import Block, index_of
from occle_core.bags.mcap_records import DAMAGE, Damage, damaged, next_record, unpack
from occle_core.console import print_notice_once

_KEPT_BLOCKS = 6
"""Blocks that `read` keeps: those around one frame's messages."""


class McapFile:
    """A Storage (`occle_core.bags.storage`).

    Raises:
        BagError: not an mcap file, damaged, or cut off before its first message.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        state = path.stat()
        self._index = index = index_of(path.absolute(), state.st_size, state.st_mtime_ns)
        self.channels, self.counts, self.start, self.end = index.channels, index.counts, index.start, index.end
        self.cut_off = index.cut_off
        self._path, self._file = path, path.open("rb")
        self._kept: dict[int, list[Message]] = {}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, channels: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """(channel, time, data) in time order; messages of one time in the order of the file."""
        for channel, time, _, data in self.located(channels):
            yield channel, time, data

    def read(self, place: tuple[int, int]) -> bytes:
        """The message at a place of `located`; the blocks read last are kept."""
        offset, number = place
        messages = self._kept.pop(offset, None)
        if messages is None:
            block = next((block for block in self._index.blocks if block.offset == offset), None)
            if block is None:
                raise damaged(self._path, offset, Damage("it has changed since it was indexed"))
            messages = self._read(block)
        self._kept[offset] = messages
        while len(self._kept) > _KEPT_BLOCKS:
            del self._kept[next(iter(self._kept))]
        return messages[number].data

    def located(self, channels: Collection[int]) -> Iterator[tuple[int, int, tuple[int, int], bytes]]:
        """(channel, time, place, data) as `messages`; a place is a block's offset and the number in it."""
        wanted = set(channels)
        found: Counter[int] = Counter()
        waiting: list[tuple[int, int, int, int, bytes]] = []  # time, place in the file (block, number in it), channel, data
        for block in sorted(self._index.blocks, key=lambda block: block.start):
            if block.channels and wanted.isdisjoint(block.channels):
                continue
            while waiting and waiting[0][0] < block.start:
                time, offset, place, channel, data = heapq.heappop(waiting)
                yield channel, time, (offset, place), data
            for number, message in enumerate(self._read(block)):
                if message.channel_id in wanted:
                    found[message.channel_id] += 1
                    heapq.heappush(waiting, (message.log_time, block.offset, number, message.channel_id, message.data))
        while waiting:
            time, offset, place, channel, data = heapq.heappop(waiting)
            yield channel, time, (offset, place), data
        for channel in wanted:
            if found[channel] != self.counts[channel]:
                topic, counted = self.channels[channel].topic, self.counts[channel]
                print_notice_once(f"{self._path}: its index counts {counted} messages of {topic}, {found[channel]} were found")

    def _read(self, block: Block) -> list[Message]:
        data = BytesIO(os.pread(self._file.fileno(), block.length, block.offset))
        found: list[Message] = []
        try:
            while data.tell() < block.length:
                record = next_record(data, block.length)
                if not isinstance(record, (Chunk, Message)):
                    raise Damage("there is no chunk where the index says")
                found += [part for part in unpack(record) if isinstance(part, Message)]
            if lost := {message.channel_id for message in found} - self.channels.keys():
                raise Damage(f"a message belongs to channel {min(lost)}, which is not defined")
        except DAMAGE as error:
            raise damaged(self._path, block.offset, error) from error
        return found
