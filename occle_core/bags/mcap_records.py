# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Records of an mcap file, parsed by the `mcap` package.

It reads what is there where a record says more, allocates what a length says, skips types that it does not know, and raises a
dozen kinds of exception. So lengths and types are checked before it sees a record, and the exceptions are named here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import Chunk, McapRecord
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from mcap.writer import MCAP0_MAGIC
from zstandard import ZstdError

from occle_core.bags.storage import BagError
from occle_core.console import one_line, shell_quote

DAMAGE = (McapError, ValueError, LookupError, ArithmeticError, struct.error)
"""Exceptions that bytes raise which are no mcap."""
MAGIC = MCAP0_MAGIC
"""The first and the last bytes of a file."""
FOOTER = struct.Struct("<BQQQI8s")
"""Opcode, length, start of the summary (0: none), start of its offsets, its CRC-32 (0: none), MAGIC."""
_HEAD = struct.Struct("<BQ")
DATA = (
    Opcode.HEADER, Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE, Opcode.CHUNK, Opcode.MESSAGE_INDEX, Opcode.ATTACHMENT,
    Opcode.METADATA, Opcode.DATA_END,
)  # fmt: skip
"""Types of the data section."""
SUMMARY = (
    Opcode.SCHEMA, Opcode.CHANNEL, Opcode.STATISTICS, Opcode.CHUNK_INDEX, Opcode.ATTACHMENT_INDEX, Opcode.METADATA_INDEX,
    Opcode.SUMMARY_OFFSET,
)  # fmt: skip
"""Types of the summary."""
_SKIPPED = (Opcode.HEADER, Opcode.ATTACHMENT, Opcode.METADATA)
_PRIVATE = 0x80
"""Opcodes from here on belong to other tools."""
_MAX_CHUNK_BYTES = 1 << 32


class Damage(ValueError):
    """Bytes that are no mcap; the text says why."""


def next_record(file: BinaryIO, end: int, types: Collection[int] = DATA) -> McapRecord | None:
    """The record at a file's position, which is then behind it; None where it is of no use here.

    Args:
        file: also bytes in memory.
        end: position where the last record ends.
        types: those that may be there, DATA or SUMMARY.

    Raises:
        Damage: it is longer than that, or of another type. What DAMAGE lists.
    """
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise Damage("a record is cut off")
    opcode, length = _HEAD.unpack(head)
    if opcode not in types and opcode < _PRIVATE:
        raise Damage(f"a record of type {opcode} cannot be there")
    if length > end - file.tell():
        raise Damage("a record is cut off")
    if opcode in _SKIPPED or opcode >= _PRIVATE:
        file.seek(length, os.SEEK_CUR)
        return None
    return next(StreamReader(BytesIO(head + file.read(length)), skip_magic=True, emit_chunks=True).records)


def unpack(record: McapRecord | None) -> list[McapRecord]:
    """The records inside a chunk, decompressed and checked against its CRC; another record stays as it is.

    Raises:
        Damage: the chunk has not the length or the compression that it says. What DAMAGE lists.
    """
    if not isinstance(record, Chunk):
        return [record] if record else []
    if record.compression not in ("", "zstd", "lz4"):
        raise Damage(f"its compression {record.compression!r} is neither zstd nor lz4")
    if record.uncompressed_size > _MAX_CHUNK_BYTES or (not record.compression and len(record.data) != record.uncompressed_size):
        raise Damage(f"a chunk of {len(record.data)} bytes says that it has {record.uncompressed_size}")
    try:
        return breakup_chunk(record, validate_crc=True)
    except (ZstdError, RuntimeError, EOFError, MemoryError) as error:  # RuntimeError is lz4's
        raise Damage(f"{record.compression} cannot decompress it ({error})") from error


def has_footer(file: BinaryIO, size: int) -> bool:
    """True if an mcap file was finished."""
    file.seek(max(0, size - FOOTER.size))
    tail = file.read()
    return len(tail) == FOOTER.size and tail.startswith(_HEAD.pack(Opcode.FOOTER, 20)) and tail.endswith(MAGIC)


def reason(error: BaseException) -> str:
    """The message of one of DAMAGE, in one line."""
    if isinstance(error, CRCValidationError):
        return "its checksum does not fit"
    if isinstance(error, (EndOfFile, struct.error)):
        return "a record is shorter than its fields"
    return one_line(error) or type(error).__name__


def damaged(path: Path, at: int, error: BaseException) -> BagError:
    """The error for damage in the middle of a file."""
    remedy = f"`mcap recover {shell_quote(path)} -o NEW.mcap` keeps what is whole"
    return BagError(f"{path} is damaged at byte {at}: {reason(error)}; {remedy}")
