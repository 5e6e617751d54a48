"""Where the messages of an mcap file lie: from the summary at its end, or by a scan of a file that has none."""

from __future__ import annotations

import os
from binascii import crc32
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from occle_ros.bag_storage import BagError, Channel
from occle_ros.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    FOOTER_BYTES,
    HEAD,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    PRIVATE,
    SCHEMA,
    STATISTICS,
    Damage,
    Definitions,
    Fields,
    chunk_records,
    records_in,
)
from occle_ros.notices import quoted

_RUN_BYTES = 1 << 22
"""Messages outside chunks are read in blocks of about this size."""


@dataclass(frozen=True)
class Block:
    """Records that are read at once: a chunk, or messages side by side outside chunks.

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
    """What is in the file.

    Args:
        channels: by number.
        counts: messages by channel.
        start, end: times of the first and the last message, nanoseconds.
        blocks: where they lie.
        cut_off: why the messages end before the file was finished; empty for a whole file.
    """

    channels: Mapping[int, Channel] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    start: int = 0
    end: int = 0
    blocks: list[Block] = field(default_factory=list)
    cut_off: str = ""


@lru_cache(maxsize=8)
def index_of(path: Path, size: int, modified: int) -> Index:
    """The index of a file; a scan reads all of it, so it is kept as long as size and time of modification stay.

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
        reader = _Reader(file.fileno(), size)
        try:
            whole = reader.has_footer()
            index = reader.from_summary() if whole else None
            index = index or reader.scan(whole)
        except Damage as damage:
            raise damaged(path, reader.at, str(damage)) from damage
    if index.cut_off and not index.counts.total():
        raise BagError(f"{path} is cut off after {size} bytes: no message in it is whole; copy it again, or record it again")
    return index


def is_finished(path: Path) -> bool:
    """Whether an mcap file has its footer; a recorder that runs or was killed has not written one."""
    with path.open("rb") as file:
        return _Reader(file.fileno(), path.stat().st_size).has_footer()


def damaged(path: Path, at: int, why: str) -> BagError:
    """The error for damage in the middle of a file."""
    return BagError(f"{path} is damaged at byte {at}: {why}; `mcap recover {quoted(path)} -o NEW.mcap` keeps what is whole")


class _Reader:
    """Reads an index; `at` is where."""

    def __init__(self, file: int, size: int) -> None:
        self._file, self._size, self.at = file, size, 0

    def has_footer(self) -> bool:
        """Whether the file was finished."""
        self.at = self._size - FOOTER_BYTES
        tail = os.pread(self._file, FOOTER_BYTES, self.at) if self.at > 0 else b""
        return tail.startswith(HEAD.pack(FOOTER, 20)) and tail.endswith(MAGIC)

    def from_summary(self) -> Index | None:
        """None where the summary is missing, damaged or leaves something out."""
        footer = os.pread(self._file, FOOTER_BYTES, self._size - FOOTER_BYTES)
        summary_start, _, crc = Fields(footer[HEAD.size :]).take("QQI")
        length = self._size - FOOTER_BYTES - summary_start
        if not summary_start or length < 0:
            return None
        summary = os.pread(self._file, length, summary_start)
        if crc and crc32(footer[: HEAD.size + 16], crc32(summary)) != crc:
            return None
        try:
            return self._parse(summary, summary_start)
        except Damage:
            return None

    def _parse(self, summary: bytes, data_end: int) -> Index | None:
        index, definitions, chunks = Index(), Definitions(), -1
        for opcode, begin, end in records_in(summary):
            content = summary[begin:end]
            definitions.take(opcode, content)
            if opcode == STATISTICS:
                fields = Fields(content)
                total, _, _, _, _, chunks, index.start, index.end = fields.take("QHIIIIQQ")
                index.counts = Counter(fields.pairs("HQ"))
                if index.counts.total() != total or index.start > index.end:
                    return None
            elif opcode == CHUNK_INDEX:
                fields = Fields(content)
                start, _, offset, length = fields.take("QQQQ")
                if offset + length > data_end:
                    return None
                index.blocks.append(Block(start, offset, length, frozenset(fields.pairs("HQ"))))
        index.channels = definitions.channels
        known = all(channel in index.channels for channel, count in index.counts.items() if count)
        return index if known and chunks == len(index.blocks) and (chunks or not index.counts.total()) else None

    def scan(self, whole: bool) -> Index:
        """Every record from the beginning.

        Args:
            whole: the file has its footer, so that damage is damage; else the index ends before the first damage.
        """
        index, definitions, run = Index(), Definitions(), _Run()
        index.channels = definitions.channels
        self.at, end = len(MAGIC), self._size
        try:
            while self.at < end:
                opcode, length = self._head(end)
                if opcode == DATA_END:
                    break
                if opcode in (SCHEMA, CHANNEL):
                    definitions.take(opcode, self._content(length))
                elif opcode == CHUNK:
                    self._chunk(index, definitions, length)
                elif opcode == MESSAGE:
                    run.add(index, self.at, length, self._message(index, self._content(min(length, MESSAGE_HEAD.size))))
                self.at += HEAD.size + length
            else:
                if whole:
                    raise Damage("the data section has no end")
        except Damage as damage:
            if whole:
                raise
            index.cut_off = f"after byte {self.at} of {self._size}: {damage}"
        else:
            index.cut_off = "" if whole else "its index at the end is missing"
        run.end(index)
        return index

    def _head(self, end: int) -> tuple[int, int]:
        head = os.pread(self._file, HEAD.size, self.at)
        if len(head) < HEAD.size:
            raise Damage("a record is cut off")
        opcode, length = HEAD.unpack(head)
        if not 0 < opcode <= DATA_END and opcode < PRIVATE:
            raise Damage(f"there is no record of type {opcode}")
        if length > end - self.at - HEAD.size:
            raise Damage("a record is cut off")
        return opcode, length

    def _content(self, length: int) -> bytes:
        return os.pread(self._file, length, self.at + HEAD.size)

    def _chunk(self, index: Index, definitions: Definitions, length: int) -> None:
        """Take a chunk, or nothing of it."""
        found, times = Counter[int](), []
        records = chunk_records(self._content(length))
        for opcode, begin, end in records_in(records):
            if opcode in (SCHEMA, CHANNEL):
                definitions.take(opcode, records[begin:end])
            elif opcode == MESSAGE:
                channel, time = self._message(index, records[begin : min(end, begin + MESSAGE_HEAD.size)])
                found[channel] += 1
                times.append(time)
            elif opcode < PRIVATE:
                raise Damage(f"a record of type {opcode} is inside a chunk")
        if times:
            _extend(index, found, min(times), max(times))
            index.blocks.append(Block(min(times), self.at, HEAD.size + length, frozenset(found)))

    @staticmethod
    def _message(index: Index, head: bytes) -> tuple[int, int]:
        """Channel and time."""
        if len(head) < MESSAGE_HEAD.size:
            raise Damage("a message is shorter than its header")
        channel, _, time, _ = MESSAGE_HEAD.unpack(head)
        if channel not in index.channels:
            raise Damage(f"a message belongs to channel {channel}, which is not defined")
        return channel, time


class _Run:
    """Messages side by side outside chunks, until something else comes or they are enough for a block."""

    def __init__(self) -> None:
        self._offset = self._length = self._start = 0
        self._channels: set[int] = set()

    def add(self, index: Index, offset: int, length: int, message: tuple[int, int]) -> None:
        """Add one of `length` bytes without its head."""
        channel, time = message
        if self._length and (offset != self._offset + self._length or self._length > _RUN_BYTES):
            self.end(index)
        if not self._length:
            self._offset, self._start = offset, time
        self._length += HEAD.size + length
        self._start = min(self._start, time)
        self._channels.add(channel)
        _extend(index, Counter((channel,)), time, time)

    def end(self, index: Index) -> None:
        """Turn them into a block."""
        if self._length:
            index.blocks.append(Block(self._start, self._offset, self._length, frozenset(self._channels)))
        self._length, self._channels = 0, set()


def _extend(index: Index, found: Counter[int], start: int, end: int) -> None:
    index.start = min(index.start, start) if index.counts else start
    index.end = max(index.end, end)
    index.counts += found
