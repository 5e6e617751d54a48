# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Index of an mcap file: from the summary at its end, or by one pass over a file that has none."""

from __future__ import annotations

from binascii import crc32
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mcap import records
from mcap.records import Chunk, ChunkIndex, DataEnd, McapRecord, Message, MessageIndex, Schema, Statistics

from occle_core.bags.mcap_records import DAMAGE, FOOTER, MAGIC, SUMMARY, Damage, damaged, has_footer, next_record, reason, unpack
from occle_core.bags.storage import BagError, Channel

_BLOCK_BYTES = 1 << 22
"""Records side by side are read in blocks of about this size."""


@dataclass(frozen=True)
class Block:
    """Records that are read together: a chunk, or messages side by side outside chunks.

    Args:
        start: time of the first message in it, nanoseconds.
        offset, length: bytes in the file.
        channels: those with messages in it; empty where that is not known.
    """

    start: int
    offset: int
    length: int
    channels: frozenset[int] = frozenset()


@dataclass
class Index:
    """Channels, message counts, time span and blocks of a file.

    Args:
        channels: by number.
        counts: messages by channel.
        start, end: times of the first and the last message, nanoseconds.
        blocks: where they lie.
        cut_off: why the messages end before the file was finished; empty for a whole file.
        schemas: by number.
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    start: int = 0
    end: int = 0
    blocks: list[Block] = field(default_factory=list)
    cut_off: str = ""
    schemas: dict[int, Schema] = field(default_factory=dict)

    def define(self, record: McapRecord | None) -> None:
        """Note a schema or a channel.

        Raises:
            Damage: a channel's schema is missing.
        """
        if isinstance(record, Schema):
            self.schemas[record.id] = record
        elif isinstance(record, records.Channel):
            if record.schema_id and record.schema_id not in self.schemas:
                raise Damage(f"the schema of channel {record.id} is missing")
            schema = self.schemas.get(record.schema_id, Schema(0, b"", "", ""))
            text = schema.data.decode("utf-8", "replace") if schema.encoding in ("ros2msg", "ros2idl") else ""
            qos, digest = (record.metadata.get(key, "") for key in ("offered_qos_profiles", "topic_type_hash"))
            channel = Channel(record.topic, schema.name, record.message_encoding, text, schema.encoding, qos, digest)
            self.channels[record.id] = channel

    def add(self, record: McapRecord | None, offset: int, length: int) -> None:
        """Take a record of the data section; of a chunk all messages or none.

        Raises:
            Damage: a message belongs to an unknown channel. What DAMAGE lists.
        """
        inside = unpack(record)
        for part in inside:
            self.define(part)
        messages = [part for part in inside if isinstance(part, Message)]
        found, times = Counter(message.channel_id for message in messages), [message.log_time for message in messages]
        if lost := found.keys() - self.channels:
            raise Damage(f"a message belongs to channel {min(lost)}, which is not defined")
        if not messages:
            return
        self.start = min(self.start if self.counts else times[0], *times)
        self.end = max(self.end, *times)
        self.counts += found
        last = self.blocks[-1] if self.blocks else Block(0, 0, 0)
        if last.offset + last.length == offset and last.length < _BLOCK_BYTES:
            start, channels = min(last.start, *times), last.channels | found.keys()
            self.blocks[-1] = Block(start, last.offset, last.length + length, channels)
        else:
            self.blocks.append(Block(min(times), offset, length, frozenset(found)))


@lru_cache(maxsize=8)
def index_of(path: Path, size: int, modified: int) -> Index:
    """The index of a file; the pass reads all of it, so it is kept as long as size and time of modification stay.

    Raises:
        BagError: not an mcap file, or damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
        if not size:
            raise BagError(f"{path} is empty (0 bytes): nothing was written to it, or the copy failed")
        if not MAGIC.startswith(start):
            raise BagError(f"{path} is not an mcap file: it begins with {start!r}; give a bag's folder, or an .mcap or .db3 file")
        is_whole = has_footer(file, size)
        index = (_from_summary(file, size) if is_whole else None) or _from_data(path, file, size, is_whole)
    if index.cut_off and not index.counts.total():
        raise BagError(f"{path} is cut off after {size} bytes: no message in it is whole; copy it again, or record it again")
    return index


def _from_summary(file: BinaryIO, size: int) -> Index | None:
    """None where the summary is missing, damaged or leaves something out."""
    file.seek(size - FOOTER.size)
    _, _, start, _, crc, _ = FOOTER.unpack(file.read(FOOTER.size))
    if not len(MAGIC) <= start <= size - FOOTER.size:
        return None
    file.seek(start)
    summary = file.read(size - start)
    if crc and crc32(summary[:-12]) != crc:  # up to itself
        return None
    index, total, chunks = Index(), -1, -1
    content, end = BytesIO(summary), len(summary) - FOOTER.size
    try:
        while content.tell() < end:
            record = next_record(content, end, SUMMARY)
            index.define(record)
            if isinstance(record, Statistics):
                total, chunks, index.counts = record.message_count, record.chunk_count, Counter(record.channel_message_counts)
                index.start, index.end = record.message_start_time, record.message_end_time
            elif isinstance(record, ChunkIndex):
                channels = frozenset(record.message_index_offsets)
                index.blocks.append(Block(record.message_start_time, record.chunk_start_offset, record.chunk_length, channels))
    except DAMAGE:
        return None
    is_right = (
        index.counts.total() == total
        and len(index.blocks) == chunks
        and (chunks or not total)
        and index.start <= index.end
        and all(channel in index.channels for channel, count in index.counts.items() if count)
        and all(block.offset + block.length <= start for block in index.blocks)
    )
    return index if is_right else None


def _from_data(path: Path, file: BinaryIO, size: int, is_whole: bool) -> Index:
    """Every record from the beginning.

    Args:
        is_whole: the file has its footer, so that damage is damage; else the index ends before the first damage.
    """
    index, at, is_behind_chunk = Index(), len(MAGIC), False
    file.seek(at)
    try:
        while at < size:
            record = next_record(file, size)
            if isinstance(record, DataEnd):
                break
            if isinstance(record, MessageIndex) and not is_behind_chunk:
                raise Damage("the chunk before it is missing")
            is_behind_chunk = isinstance(record, (Chunk, MessageIndex))
            end = file.tell()
            index.add(record, at, end - at)
            at = end
        else:
            if is_whole:
                raise Damage("the data section has no end")
    except DAMAGE as error:
        if is_whole:
            raise damaged(path, at, error) from error
        index.cut_off = f"after byte {at} of {size}: {reason(error)}"
    else:
        index.cut_off = "" if is_whole else "its index at the end is missing"
    return index
