# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writing a rosbag2 folder: one mcap file and its metadata.yaml, both there from the beginning."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from mcap.data_stream import RecordBuilder
from mcap.records import Header
from mcap.writer import CompressionType, Writer
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat, Qos

from occle_core.atomic_file import atomic_write
from occle_core.bags.mcap_records import MAGIC, has_footer
from occle_core.bags.metadata import METADATA_FILE, describe_bag, qos_text
from occle_core.bags.storage import TYPES
from occle_core.output_folder import output_exists, output_exists_error

_LIBRARY = "occle"
"""The writer's name in the file's header."""
_CHUNK_BYTES = 1 << 20


class BagWriter:
    """A new bag. Leaving the `with` finishes it, also after an error: what was written is then read as any bag.

    Args:
        folder: is made with its parents, or empty.
        name: of the mcap file, without its ending; None: that of the folder.

    Raises:
        OutputError: there is something at `folder`.
        OSError: it cannot be written (all methods). The file then ends with the last whole chunk and has no summary.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.path = folder
        if output_exists(folder):
            raise output_exists_error(folder)
        folder.mkdir(parents=True, exist_ok=True)
        file_name = (name or folder.name).encode("utf-8", "replace").decode()  # what metadata.yaml can hold
        self.file = folder / f"{file_name}.mcap"
        """The mcap file."""
        self.counts: Counter[int] = Counter()
        """Messages by connection, as far as they are in the file."""
        self.start = self.end = 0
        """Times of the first and the last of them, nanoseconds."""
        self.size = 0
        """Bytes in the file."""
        self._waiting: list[tuple[int, int]] = []
        self._waiting_bytes = 0
        self._connections: list[Connection] = []
        self._schemas: dict[str, int] = {}
        self._offered: dict[int, list[Qos]] = {}
        try:
            self._stream = FileIO(self.file, "xb")
            # Chunks end in `flush` only, so that it is known which messages are in the file.
            self._mcap = Writer(self._stream, chunk_size=sys.maxsize, compression=CompressionType.NONE)
            with self._all_or_nothing():
                self._mcap.start("ros2", _LIBRARY)
        except OSError:
            self.remove()
            raise

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def message_count(self) -> int:
        """Messages that are in the file; the newest may still be in memory."""
        return self.counts.total()

    def add_connection(
        self, topic: str, msgtype: str, *, typestore: Any = TYPES, offered_qos_profiles: Sequence[Qos] = ()
    ) -> Connection:
        """A topic, before its first message.

        Args:
            topic: its name.
            msgtype: such as "sensor_msgs/msg/Image", in `typestore`.
            typestore: of rosbags.
            offered_qos_profiles: what its publishers offer.
        """
        text, _ = typestore.generate_msgdef(msgtype, ros_version=2)
        digest, qos = typestore.hash_rihs01(msgtype), list(offered_qos_profiles)
        if msgtype not in self._schemas:
            self._schemas[msgtype] = self._mcap.register_schema(msgtype, "ros2msg", text.encode())
        metadata = {"offered_qos_profiles": qos_text(qos), "topic_type_hash": digest}
        number = self._mcap.register_channel(topic, "cdr", self._schemas[msgtype], metadata)
        definition, ext = MessageDefinition(MessageDefinitionFormat.MSG, text), ConnectionExtRosbag2("cdr", qos)
        connection = Connection(number, topic, msgtype, definition, digest, 0, ext, self)
        self._connections.append(connection)
        self._offered[number] = qos
        self._write_metadata()
        return connection

    def set_offered_qos(self, connection: Connection, profiles: Sequence[Qos]) -> None:
        """Set the QoS profiles that a topic's publishers offer by now; readers take them from metadata.yaml."""
        self._offered[connection.id] = list(profiles)

    def write(self, connection: Connection, stamp: int, data: bytes) -> None:
        """Add a message, received at `stamp` nanoseconds, to the chunk in memory; a chunk that is large enough goes to the file."""
        self._mcap.add_message(connection.id, stamp, data, stamp)
        self._waiting.append((connection.id, stamp))
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand the chunk to the operating system: it then survives this process, and after `sync` a power cut."""
        with self._all_or_nothing():
            self._mcap.flush()
        if self._waiting:
            times = [stamp for _, stamp in self._waiting]
            self.start = min(self.start if self.counts else times[0], *times)
            self.end = max(self.end, *times)
            self.counts.update(connection for connection, _ in self._waiting)
            self._waiting, self._waiting_bytes = [], 0

    def sync(self) -> None:
        """Wait until the disk has what was flushed."""
        os.fdatasync(self._stream.fileno())

    def close(self) -> None:
        """Finish both files; after a failed write the mcap file stays as it is."""
        try:
            if not self._stream.closed:
                self.flush()
                with self._all_or_nothing():
                    self._mcap.add_metadata("rosbag2", {"serialized_metadata": yaml.safe_dump(self._info(), sort_keys=False)})
                    self._mcap.finish()
                with suppress(OSError):  # a file system that cannot is no loss
                    self.sync()
                self._stream.close()
        finally:  # on a full disk there may be room for what is small
            self._write_metadata()

    def remove(self) -> None:
        """Delete the closed bag: for one that holds nothing."""
        self.file.unlink(missing_ok=True)
        (self.path / METADATA_FILE).unlink(missing_ok=True)
        self.path.rmdir()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """After a failed write the file ends where it ended before, and nothing more is written."""
        try:
            yield
            self._mcap.flush()
        except OSError as error:
            self._stream.truncate(self.size)
            self._stream.close()
            raise OSError(error.errno, error.strerror, str(self.file)) from error
        self.size = self._stream.tell()

    def _info(self) -> dict[str, Any]:
        return describe_bag(self.file.name, self._connections, self.counts, self._offered, self.start, self.end)

    def _write_metadata(self) -> None:
        with atomic_write(self.path / METADATA_FILE) as temporary:
            text = yaml.safe_dump({"rosbag2_bagfile_information": self._info()}, sort_keys=False, allow_unicode=True)
            temporary.write_text(text, "utf-8")


def is_interrupted(file: Path) -> bool:
    """True if BagWriter began this file and was never closed: it runs still, was killed, or its disk was full."""
    header = RecordBuilder()
    Header("ros2", _LIBRARY).write(header)
    ours = MAGIC + header.end()
    with file.open("rb") as opened:
        return ours.startswith(opened.read(len(ours))) and not has_footer(opened, file.stat().st_size)
