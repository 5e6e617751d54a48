"""Writing a rosbag2 folder: one mcap file and its metadata.yaml, both there from the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat, Qos

from occle_core.atomic_file import atomic_write
from occle_ros.bag_metadata import METADATA_FILE, describe_bag, qos_text
from occle_ros.bag_storage import TYPES, BagError
from occle_ros.mcap_writer import McapWriter


class BagWriter:
    """A new bag. Leaving the `with` finishes it, also after an error: what was written is then read as any bag.

    Args:
        folder: must not exist; it is made with its parents.

    Raises:
        BagError: it exists.
        OSError: it cannot be written (all methods).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise BagError(f"{folder} exists already and is not overwritten; choose another name or remove it") from None
        self._connections: list[Connection] = []
        self._schemas: dict[str, int] = {}
        self._offered: dict[int, list[Qos]] = {}
        try:
            name = folder.name.encode("utf-8", "replace").decode()  # what metadata.yaml can hold
            self._mcap = McapWriter(folder / f"{name}.mcap")
        except OSError:
            folder.rmdir()
            raise

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def file(self) -> Path:
        """The mcap file."""
        return self._mcap.path

    @property
    def message_count(self) -> int:
        """Messages that are in the file; the newest may still be in memory."""
        return self._mcap.counts.total()

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._mcap.size

    @property
    def end(self) -> int:
        """Time of the last message in the file, nanoseconds; 0 without messages."""
        return self._mcap.end

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
        connection = Connection(
            len(self._connections) + 1, topic, msgtype, MessageDefinition(MessageDefinitionFormat.MSG, text), digest, 0,
            ConnectionExtRosbag2("cdr", qos), self,
        )  # fmt: skip
        self._connections.append(connection)
        self._offered[connection.id] = qos
        if msgtype not in self._schemas:
            self._schemas[msgtype] = len(self._schemas) + 1
            self._mcap.add_schema(self._schemas[msgtype], msgtype, "ros2msg", text)
        metadata = {"offered_qos_profiles": qos_text(qos), "topic_type_hash": digest}
        self._mcap.add_channel(connection.id, self._schemas[msgtype], topic, metadata)
        self._write_metadata()
        return connection

    def set_offered_qos(self, connection: Connection, profiles: Sequence[Qos]) -> None:
        """What the publishers of a topic offer by now; it goes into metadata.yaml, which readers believe."""
        self._offered[connection.id] = list(profiles)

    def write(self, connection: Connection, stamp: int, data: bytes) -> None:
        """Add a message, received at `stamp` nanoseconds."""
        self._mcap.write(connection.id, stamp, data)

    def flush(self) -> None:
        """Hand what is in memory to the operating system."""
        self._mcap.flush()

    def sync(self) -> None:
        """Wait until the disk has what was flushed."""
        self._mcap.sync()

    def close(self) -> None:
        """Finish both files."""
        try:
            self._mcap.flush()
        finally:  # on a full disk there may be room for what is small
            try:
                self._mcap.finish({"serialized_metadata": yaml.safe_dump(self._info(), sort_keys=False)})
            finally:
                self._write_metadata()

    def remove(self) -> None:
        """Delete the closed bag: for one that holds nothing."""
        self.file.unlink(missing_ok=True)
        (self.path / METADATA_FILE).unlink(missing_ok=True)
        self.path.rmdir()

    def _info(self) -> dict[str, Any]:
        counts = {connection.id: self._mcap.counts[connection.id] for connection in self._connections}
        return describe_bag(self.file.name, self._connections, counts, self._offered, self._mcap.start, self._mcap.end)

    def _write_metadata(self) -> None:
        with atomic_write(self.path / METADATA_FILE) as temporary:
            text = yaml.safe_dump({"rosbag2_bagfile_information": self._info()}, sort_keys=False, allow_unicode=True)
            temporary.write_text(text, "utf-8")
