"""Records of the mcap format (https://mcap.dev/spec): opcode, length, content; little endian.

A file is MAGIC, a header, the data section (schemas, channels, messages, mostly inside chunks), a summary that repeats schemas
and channels and indexes the chunks, a footer, MAGIC. A recorder that was killed leaves no summary and no footer.
"""

from __future__ import annotations

import struct
import sys
from binascii import crc32
from collections.abc import Iterator
from typing import Any

import lz4.frame

from occle_ros.bag_storage import Channel

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(0x0B, 0x10)
PRIVATE = 0x80
"""Opcodes from here on belong to other tools; readers skip them."""
HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
"""Channel, sequence number, log time, publish time; the data follow."""
CHUNK_HEAD = struct.Struct("<QQQI")
"""First and last log time, size and CRC-32 (0: none) of the records, uncompressed."""
FOOTER_BYTES = HEAD.size + 20 + len(MAGIC)


class Damage(ValueError):
    """Bytes that are no mcap; the text says why."""


class Fields:
    """Reads the fields of a record's content one after the other.

    Raises (all methods):
        Damage: the content is too short, or a text is not UTF-8.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self.at = content, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        """Numbers, as `struct` names them."""
        try:
            values = struct.unpack_from(f"<{layout}", self._content, self.at)
        except struct.error as error:
            raise Damage("a record is shorter than its fields") from error
        self.at += struct.calcsize(f"<{layout}")
        return values

    def blob(self, length_layout: str = "I") -> bytes:
        """Bytes behind their length."""
        (length,) = self.take(length_layout)
        if length > len(self._content) - self.at:
            raise Damage("a record is shorter than its fields")
        self.at += length
        return self._content[self.at - length : self.at]

    def text(self) -> str:
        """UTF-8 behind its length."""
        try:
            return self.blob().decode()
        except UnicodeDecodeError as error:
            raise Damage("a name is not UTF-8") from error

    def pairs(self, layout: str) -> dict[int, int]:
        """A map of numbers behind its length in bytes."""
        inner = Fields(self.blob())
        found = {}
        while inner.at < len(inner._content):
            key, value = inner.take(layout)
            found[key] = value
        return found

    def texts(self) -> dict[str, str]:
        """A map of texts behind its length in bytes."""
        inner = Fields(self.blob())
        found = {}
        while inner.at < len(inner._content):
            key = inner.text()
            found[key] = inner.text()
        return found


def records_in(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(opcode, begin, end of the content) of the records that fill `data`.

    Raises:
        Damage: they do not fill it exactly.
    """
    at = 0
    while at < len(data):
        if at + HEAD.size > len(data):
            raise Damage("a record is cut off")
        opcode, length = HEAD.unpack_from(data, at)
        at += HEAD.size
        if length > len(data) - at:
            raise Damage("a record is longer than its chunk")
        yield opcode, at, at + length
        at += length


def chunk_records(content: bytes) -> bytes:
    """The uncompressed records of a chunk, checked against its length and CRC.

    Raises:
        Damage: they do not fit, cannot be decompressed, or are compressed in a way that is not known.
    """
    fields = Fields(content)
    _, _, size, crc = fields.take("QQQI")
    compression, data = fields.text(), fields.blob("Q")
    try:
        if compression == "zstd":
            data = zstd.decompress(data)
        elif compression == "lz4":
            data = lz4.frame.decompress(data)
        elif compression:
            raise Damage(f"its compression {compression!r} is neither zstd nor lz4")
    except (zstd.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        raise Damage(f"{compression} cannot decompress it ({error})") from error
    if len(data) != size:
        raise Damage(f"it has {len(data)} bytes instead of {size}")
    if crc and crc32(data) != crc:
        raise Damage("its checksum does not fit")
    return data


class Definitions:
    """Schemas and channels as they are met."""

    def __init__(self) -> None:
        self._schemas: dict[int, tuple[str, str, bytes]] = {}
        self.channels: dict[int, Channel] = {}

    def take(self, opcode: int, content: bytes) -> None:
        """Note a schema or a channel; other records are nothing to it.

        Raises:
            Damage: the record is damaged, or a channel's schema is missing.
        """
        fields = Fields(content)
        if opcode == SCHEMA:
            (number,) = fields.take("H")
            self._schemas[number] = fields.text(), fields.text(), fields.blob()
        elif opcode == CHANNEL:
            number, schema = fields.take("HH")
            if schema and schema not in self._schemas:
                raise Damage(f"the schema of channel {number} is missing")
            name, form, text = self._schemas.get(schema, ("", "", b""))
            topic, encoding, extra = fields.text(), fields.text(), fields.texts()
            qos, digest = extra.get("offered_qos_profiles", ""), extra.get("topic_type_hash", "")
            definition = text.decode("utf-8", "replace") if form in ("ros2msg", "ros2idl") else ""
            self.channels[number] = Channel(topic, name, encoding, definition, form, qos, digest)
