"""Writing an mcap file that can be read however it ends: what is flushed is whole chunks, and a failed write is taken back."""

from __future__ import annotations

import fcntl
import os
from binascii import crc32
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from struct import pack

from occle_ros.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    HEAD,
    HEADER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    METADATA,
    METADATA_INDEX,
    SCHEMA,
    STATISTICS,
    SUMMARY_OFFSET,
)

CHUNK_BYTES = 1 << 20
"""A chunk ends when it is larger than this."""


class McapWriter:
    """A new mcap file, locked as long as it is open (`is_being_written`).

    Args:
        path: must not exist.

    Raises (all methods):
        OSError: it cannot be written. The file then ends with the last whole chunk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        with suppress(OSError):  # file systems without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._end = 0
        self._definitions: list[tuple[int, bytes]] = []
        self._chunk: list[bytes] = []
        self._chunk_bytes = 0
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._chunk_indexes: list[bytes] = []
        self.counts: Counter[int] = Counter()
        """Messages by channel, as far as they are in the file."""
        self.start = self.end = 0
        """Times of the first and the last of them, nanoseconds."""
        try:
            self._append([MAGIC, _record(HEADER, _text("ros2") + _text("occle"))])
        except OSError:
            os.close(self._file)
            path.unlink()
            raise

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._end

    def add_schema(self, number: int, name: str, form: str, text: str) -> None:
        """A message type under a number of its own, from 1 on."""
        self._define(SCHEMA, pack("<H", number) + _text(name) + _text(form) + _text(text))

    def add_channel(self, number: int, schema: int, topic: str, metadata: Mapping[str, str]) -> None:
        """A topic with CDR messages under a number of its own."""
        self._define(CHANNEL, pack("<HH", number, schema) + _text(topic) + _text("cdr") + _texts(metadata))

    def write(self, channel: int, time: int, data: bytes) -> None:
        """Add a message to the chunk in memory; a chunk that is large enough goes to the file."""
        self._index.setdefault(channel, []).append((time, self._chunk_bytes))
        head = MESSAGE_HEAD.pack(channel, 0, time, time)
        self._add(HEAD.pack(MESSAGE, len(head) + len(data)) + head, data)
        if self._chunk_bytes > CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand the chunk to the operating system: it then survives this process, and after `sync` a power cut."""
        if not self._chunk:
            return
        records, index = b"".join(self._chunk), self._index
        self._chunk, self._chunk_bytes, self._index = [], 0, {}
        times = [time for entries in index.values() for time, _ in entries]
        first, last = min(times, default=0), max(times, default=0)
        head = CHUNK_HEAD.pack(first, last, len(records), crc32(records)) + _text("") + pack("<Q", len(records))
        length = HEAD.size + len(head) + len(records)
        parts, offsets, at = [], b"", self._end + length
        for channel, entries in index.items():
            offsets += pack("<HQ", channel, at)
            part = b"".join(pack("<QQ", *entry) for entry in entries)
            parts.append(_record(MESSAGE_INDEX, pack("<HI", channel, len(part)) + part))
            at += len(parts[-1])
        entry = pack("<QQQQ", first, last, self._end, length) + pack("<I", len(offsets)) + offsets
        entry += pack("<Q", at - self._end - length) + _text("") + pack("<QQ", len(records), len(records))
        self._append([HEAD.pack(CHUNK, len(head) + len(records)), head, records, *parts])
        self._chunk_indexes.append(entry)
        if times:
            self.start = min(self.start, first) if self.counts else first
            self.end = max(self.end, last)
            self.counts.update({channel: len(entries) for channel, entries in index.items()})

    def sync(self) -> None:
        """Wait until the disk has what was flushed."""
        os.fdatasync(self._file)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write the rest, rosbag2's metadata, and the summary; then close the file, also after an error."""
        try:
            self.flush()
            self._append(self._summary(metadata))
            with suppress(OSError):  # a file system that cannot is no loss
                self.sync()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is."""
        os.close(self._file)

    def _define(self, opcode: int, content: bytes) -> None:
        self._definitions.append((opcode, content))
        self._add(_record(opcode, content))

    def _add(self, *parts: bytes) -> None:
        self._chunk += parts
        self._chunk_bytes += sum(map(len, parts))

    def _append(self, parts: Iterable[bytes]) -> None:
        """All of it or nothing."""
        data = memoryview(b"".join(parts))
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._end += written

    def _summary(self, metadata: Mapping[str, str]) -> list[bytes]:
        rosbag2 = _record(METADATA, _text("rosbag2") + _texts(metadata))
        data_end = _record(DATA_END, pack("<I", 0))
        counts = b"".join(pack("<HQ", *entry) for entry in sorted(self.counts.items()))
        schemas, channels = ([_record(*entry) for entry in self._definitions if entry[0] == kind] for kind in (SCHEMA, CHANNEL))
        chunks = [_record(CHUNK_INDEX, entry) for entry in self._chunk_indexes]
        numbers = (self.counts.total(), len(schemas), len(channels), 0, 1, len(chunks), self.start, self.end, len(counts))
        groups = {
            SCHEMA: schemas,
            CHANNEL: channels,
            STATISTICS: [_record(STATISTICS, pack("<QHIIIIQQI", *numbers) + counts)],
            CHUNK_INDEX: chunks,
            METADATA_INDEX: [_record(METADATA_INDEX, pack("<QQ", self._end, len(rosbag2)) + _text("rosbag2"))],
        }
        start = at = self._end + len(rosbag2) + len(data_end)
        summary, offsets = b"", b""
        for kind, records in groups.items():
            group = b"".join(records)
            summary += group
            offsets += _record(SUMMARY_OFFSET, pack("<BQQ", kind, at, len(group))) if group else b""
            at += len(group)
        footer = HEAD.pack(FOOTER, 20) + pack("<QQ", start, at)
        crc = crc32(footer, crc32(summary + offsets))
        return [rosbag2, data_end, summary, offsets, footer, pack("<I", crc), MAGIC]


def is_being_written(path: Path) -> bool:
    """Whether a process that runs has the file open as a McapWriter; a killed one's lock is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _record(opcode: int, content: bytes) -> bytes:
    return HEAD.pack(opcode, len(content)) + content


def _text(text: str) -> bytes:
    data = text.encode()
    return pack("<I", len(data)) + data


def _texts(texts: Mapping[str, str]) -> bytes:
    data = b"".join(_text(key) + _text(value) for key, value in texts.items())
    return pack("<I", len(data)) + data
