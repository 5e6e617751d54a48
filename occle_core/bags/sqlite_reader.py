# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Messages of a db3 file, rosbag2's SQLite storage.

It has no checksums: SQLite finds damage to the structure of its pages, not to the messages in them.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from occle_core.bags.storage import BagError, Channel
from occle_core.console import one_line, shell_quote

_MAGIC = b"SQLite format 3\0"
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)
"""The second where a message of SQLite quotes what is no UTF-8."""


class SqliteFile:
    """A Storage (`occle_core.bags.storage`).

    Raises:
        BagError: not a db3 file, or damaged.
        OSError: it cannot be read.
    """

    cut_off = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        has_log = path.with_name(f"{path.name}-wal").exists()  # of a recorder that was killed
        _check_header(path, has_log)
        # as_uri escapes # and ?; immutable: SQLite then writes nothing beside the file, and looks at no write-ahead log.
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self.start = self.end = 0
        try:
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)  # the player reads ahead in a thread
        except _DAMAGE as error:
            raise self._damaged(error) from error
        try:
            self._open()
        except _DAMAGE as error:
            self.close()
            raise self._damaged(error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(self, channels: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """(channel, time, data) in time order."""
        for channel, time, _, data in self.located(channels):
            yield channel, time, data

    def read(self, place: int) -> bytes:
        """The message of a row."""
        try:
            row = self._database.execute("SELECT data FROM messages WHERE id = ?", (place,)).fetchone()
        except _DAMAGE as error:
            raise self._damaged(error) from error
        if row is None or not isinstance(row[0], bytes):
            raise self._damaged(f"message {place} is gone")
        return row[0]

    def located(self, channels: Collection[int]) -> Iterator[tuple[int, int, int, bytes]]:
        """(channel, time, place, data) as `messages`; a place is the row's id."""
        asked = ",".join("?" * len(channels))
        query = f"SELECT topic_id, timestamp, id, data FROM messages WHERE topic_id IN ({asked}) ORDER BY timestamp, id"
        try:
            for channel, time, place, data in self._database.execute(query, tuple(channels)):
                if not isinstance(time, int) or not isinstance(data, bytes):
                    raise self._damaged(f"a message of {self.channels[channel].topic} is not a time with bytes")
                yield channel, time, place, data
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _open(self) -> None:
        columns = {table: self._columns(table) for table in ("topics", "messages", "message_definitions")}
        if not {"id", "name", "type", "serialization_format"} <= columns["topics"] or not columns["messages"]:
            raise BagError(f"{self._path} is an SQLite database but not a bag: it has no tables topics and messages")
        definitions = self._definitions() if columns["message_definitions"] else {}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns["topics"] else "''"
        for row in self._database.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics"):
            number, topic, kind, encoding, offered = row
            if not all(isinstance(text, str) for text in (topic, kind, encoding)):
                raise self._damaged(f"the name of topic {number} is not a text")
            text, form, digest = definitions.get(kind, ("", "", ""))
            self.channels[number] = Channel(topic, kind, encoding, text, form, offered if isinstance(offered, str) else "", digest)
        query = "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages GROUP BY topic_id"
        spans = [row for row in self._database.execute(query) if row[0] in self.channels]
        if not all(isinstance(value, int) for row in spans for value in row):
            raise self._damaged("a message has no time")
        self.counts = dict.fromkeys(self.channels, 0) | {channel: count for channel, count, _, _ in spans}
        self.start, self.end = min((row[2] for row in spans), default=0), max((row[3] for row in spans), default=0)

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._database.execute(f"PRAGMA table_info({table})")}

    def _definitions(self) -> dict[str, tuple[str, str, str]]:
        """Type -> text, format, hash."""
        query = "SELECT topic_type, encoded_message_definition, encoding, type_description_hash FROM message_definitions"
        rows = [row for row in self._database.execute(query) if all(isinstance(text, str) for text in row)]
        return {kind: (text, form, digest) for kind, text, form, digest in rows}

    def _damaged(self, why: Any) -> BagError:
        remedy = f"`sqlite3 {shell_quote(self._path)} .recover | sqlite3 NEW.db3`, then `ros2 bag reindex`, keeps what is whole"
        return BagError(f"{self._path} is damaged: {one_line(why)}; {remedy}")


def _check_header(path: Path, has_log: bool) -> None:
    with path.open("rb") as file:
        head = file.read(100)
    size = path.stat().st_size
    if not size:
        raise BagError(f"{path} is empty (0 bytes): nothing was written to it, or the copy failed")
    if not _MAGIC.startswith(head[: len(_MAGIC)]):
        raise BagError(f"{path} is not a db3 file: it begins with {head[:8]!r}; give a bag's folder, or an .mcap or .db3 file")
    if len(head) == 100:
        (page_bytes,), (change, pages) = struct.unpack_from(">H", head, 16), struct.unpack_from(">II", head, 24)
        (counted_at,) = struct.unpack_from(">I", head, 92)
        expected = pages * (65536 if page_bytes == 1 else page_bytes)
        # SQLite reads what is missing of the last page as zeros, which would be wrong messages.
        if has_log or change != counted_at or size >= expected:
            return
        size_text = f"{size} of {expected} bytes"
    else:
        size_text = f"{size} bytes"
    remedy = f"`sqlite3 {shell_quote(path)} .recover | sqlite3 NEW.db3`, then `ros2 bag reindex`, keeps what is whole"
    raise BagError(f"{path} is cut off: it has {size_text}; copy it again, or {remedy}")
