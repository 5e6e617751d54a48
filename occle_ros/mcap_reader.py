"""Messages of an mcap file in time order; every chunk is checked against its length and checksum before one goes out."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from occle_ros.mcap_index import Block, damaged, index_of
from occle_ros.mcap_records import CHUNK, HEAD, MESSAGE, MESSAGE_HEAD, Damage, chunk_records, records_in
from occle_ros.notices import say_once


class McapFile:
    """A Storage (`occle_ros.bag_storage`).

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

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, channels: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """(channel, time, data) in time order; messages of one time in the order of the file."""
        wanted = set(channels)
        found: Counter[int] = Counter()
        waiting: list[tuple[int, int, int, int, bytes]] = []  # time, place in the file (block, number in it), channel, data
        for block in sorted(self._index.blocks, key=lambda block: block.start):
            if block.channels and wanted.isdisjoint(block.channels):
                continue
            while waiting and waiting[0][0] < block.start:
                time, _, _, channel, data = heapq.heappop(waiting)
                yield channel, time, data
            for number, (channel, time, data) in enumerate(self._read(block)):
                if channel in wanted:
                    found[channel] += 1
                    heapq.heappush(waiting, (time, block.offset, number, channel, data))
        while waiting:
            time, _, _, channel, data = heapq.heappop(waiting)
            yield channel, time, data
        for channel in wanted:
            if found[channel] != self.counts[channel]:
                topic, counted = self.channels[channel].topic, self.counts[channel]
                say_once(f"{self._path}: its index counts {counted} messages of {topic}, {found[channel]} were found")

    def _read(self, block: Block) -> Iterator[tuple[int, int, bytes]]:
        try:
            data = os.pread(self._file.fileno(), block.length, block.offset)
            if len(data) < block.length:
                raise Damage("it is cut off")
            opcode, length = HEAD.unpack_from(data)
            if opcode == CHUNK:
                if length != block.length - HEAD.size:
                    raise Damage("the chunk has not the length that the index says")
                data = chunk_records(data[HEAD.size :])
            elif opcode != MESSAGE:
                raise Damage("there is no chunk where the index says")
            for opcode, begin, end in records_in(data):
                if opcode == MESSAGE:
                    if end - begin < MESSAGE_HEAD.size:
                        raise Damage("a message is shorter than its header")
                    channel, _, time, _ = MESSAGE_HEAD.unpack_from(data, begin)
                    if channel not in self.channels:
                        raise Damage(f"a message belongs to channel {channel}, which is not defined")
                    yield channel, time, data[begin + MESSAGE_HEAD.size : end]
        except Damage as damage:
            raise damaged(self._path, block.offset, str(damage)) from damage
