# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Reading of recorded bags: whole ones, and those killed while recording, mixed with other tools' topics, or damaged.

Topics, types and counts come from the storage files; metadata.yaml adds their order and the publishers' QoS, and is done without
where it is missing or damaged. Omissions are printed once on stderr.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat, TopicInfo

from occle_core.bags.mcap_reader import McapFile
from occle_core.bags.metadata import METADATA_FILE, Metadata, MetadataError, qos_from, read_metadata
from occle_core.bags.ros1_reader import Ros1File
from occle_core.bags.sqlite_reader import SqliteFile
from occle_core.bags.storage import BagError, Channel, Storage
from occle_core.console import print_notice_once, shell_quote

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_FORMATS = (".mcap", ".db3", ".bag")
_COMPRESSED = (".zstd", ".zst")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DEFINITIONS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


@contextmanager
def open_bag(bag: Path) -> Iterator[BagFile]:
    """A bag's folder or file for reading.

    Raises:
        BagError: there is none, or it is damaged (also while reading).
    """
    with ExitStack() as stack:
        try:
            opened = BagFile(bag, stack)
        except OSError as error:
            raise unreadable(bag, error) from error
        yield opened


def unreadable(bag: Path, error: OSError) -> BagError:
    """The error for what the operating system refuses."""
    remedy = f"; `ls -ld {shell_quote(error.filename or bag)}` shows whose it is" if isinstance(error, PermissionError) else ""
    return BagError(f"{error.filename or bag} cannot be read: {error.strerror or error}{remedy}")


class BagFile:
    """An open bag. `open_bag` makes it.

    Args:
        bag: a rosbag2 folder, or a single mcap or db3 file.
        stack: closes the files.
    """

    def __init__(self, bag: Path, stack: ExitStack) -> None:
        self._bag = bag
        files, self._metadata = _files_of(bag)
        self._storages: list[Storage] = [_open_file(file, stack) for file in files]
        self.connections: list[Connection] = []
        """The topics with CDR messages; one for each topic and type, over all files."""
        self.skipped: dict[str, str] = {}
        """Topics that are left out, with the reason."""
        for storage in self._storages:
            for number, channel in storage.channels.items():
                self._take(channel, storage.counts.get(number, 0))
        self.start_time = min((s.start for s in self._storages if any(s.counts.values())), default=0)
        """Time of the first message, nanoseconds."""
        self.end_time = max(s.end for s in self._storages)
        """Time of the last message, nanoseconds."""
        self.message_count = sum(connection.msgcount for connection in self.connections)
        self._say(files)

    @property
    def topics(self) -> dict[str, TopicInfo]:
        """Topics with type, number of messages and connections."""
        found: dict[str, list[Connection]] = {}
        for connection in self.connections:
            found.setdefault(connection.topic, []).append(connection)
        return {name: TopicInfo(cs[0].msgtype, cs[0].msgdef, sum(c.msgcount for c in cs), cs) for name, cs in found.items()}

    def messages(self, connections: Collection[Connection] | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time in nanoseconds, CDR bytes) in time order; file after file.

        Args:
            connections: those wanted; None: all.

        Raises:
            BagError: the bag is damaged there.
        """
        for connection, time, _, data in self.located(connections):
            yield connection, time, data

    def read(self, place: tuple[int, Any]) -> bytes:
        """CDR bytes of the message at a place of `located`.

        Raises:
            BagError: the bag is damaged there, or has changed.
        """
        storage, at = place
        try:
            data = self._storages[storage].read(at)
        except OSError as error:
            raise unreadable(self._bag, error) from error
        return self._decompress(data, None, 0)

    def located(
        self, connections: Collection[Connection] | None = None
    ) -> Iterator[tuple[Connection, int, tuple[int, Any], bytes]]:
        """(connection, time, place, CDR bytes) as `messages`; a place is what `read` takes."""
        wanted = {(c.topic, c.msgtype): c for c in (self.connections if connections is None else connections)}
        for order, storage in enumerate(self._storages):
            by_number = {
                number: wanted[channel.topic, channel.msgtype]
                for number, channel in storage.channels.items()
                if not _reason_to_skip(channel) and (channel.topic, channel.msgtype) in wanted
            }
            if not by_number:
                continue
            try:
                for number, time, place, data in storage.located(by_number):
                    yield by_number[number], time, (order, place), self._decompress(data, by_number[number], time)
            except OSError as error:
                raise unreadable(self._bag, error) from error

    def _decompress(self, data: bytes, connection: Connection | None, time: int) -> bytes:
        # Also where there is no metadata, or a single file is read: no CDR message begins like a zstd frame.
        is_compressed = self._metadata is not None and self._metadata.compressed_messages
        if not is_compressed and not data.startswith(_ZSTD_MAGIC):
            return data
        try:
            return bytes(zstd.decompress(data))
        except (zstd.ZstdError, EOFError) as error:
            where = f"the message of {connection.topic} at {time} ns" if connection else "a message"
            raise BagError(f"{self._bag} is damaged: {where} is not zstd ({error}); copy it again") from error

    def _take(self, channel: Channel, count: int) -> None:
        if reason := _reason_to_skip(channel):
            self.skipped[channel.topic] = reason
            return
        for at, known in enumerate(self.connections):
            if (known.topic, known.msgtype) == (channel.topic, channel.msgtype):
                self.connections[at] = known._replace(msgcount=known.msgcount + count)
                return
        form = _DEFINITIONS.get(channel.definition_format, MessageDefinitionFormat.NONE)
        qos = (self._metadata.qos.get(channel.topic) if self._metadata else None) or qos_from(channel.qos)
        self.connections.append(
            Connection(
                len(self.connections) + 1,
                channel.topic,
                channel.msgtype,
                MessageDefinition(form, channel.definition),
                channel.digest,
                count,
                ConnectionExtRosbag2("cdr", qos),
                self,
            )
        )

    def _say(self, files: list[Path]) -> None:
        if self.skipped and not self.connections:
            listed = ", ".join(f"{topic} ({reason})" for topic, reason in self.skipped.items())
            raise BagError(f"{self._bag} has no ROS 2 messages: {listed}; `rosbags-convert` converts ROS 1 bags")
        for topic, reason in self.skipped.items():
            print_notice_once(f"{self._bag}: {topic} is left out: {reason}")
        cut = [(file, storage) for file, storage in zip(files, self._storages) if storage.cut_off]
        for file, storage in cut:
            count, remedies = sum(storage.counts.values()), (f"mcap recover {shell_quote(file)} -o NEW.mcap", _reindex(file.parent))
            print_notice_once(
                f"{file} was not finished ({storage.cut_off}): the {count} messages before are read; "
                f"`{remedies[0]}`, or `{remedies[1]}`, makes it whole for other tools"
            )
        counted = sum(self._metadata.counts.values()) if self._metadata else None
        there = sum(sum(storage.counts.values()) for storage in self._storages)
        if counted is not None and counted != there and not cut:
            numbers = f"counts {counted} messages, the files hold {there}"
            print_notice_once(f"{self._bag}: {METADATA_FILE} {numbers}; `{_reindex(self._bag)}` counts again")


def _reason_to_skip(channel: Channel) -> str:
    """Why a channel's messages are none of ROS 2; empty for those that are."""
    if channel.encoding != "cdr":
        return f"its messages are {channel.encoding or 'of no named encoding'}, not CDR"
    return "" if channel.msgtype else "its message type is not in the file"


def _open_file(file: Path, stack: ExitStack) -> Storage:
    if file.suffix in _COMPRESSED:
        file = _decompressed(file, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="occle_bag_"))))
    storage: Storage = McapFile(file) if file.suffix == ".mcap" else Ros1File(file) if file.suffix == ".bag" else SqliteFile(file)
    stack.callback(storage.close)
    return storage


def _decompressed(file: Path, folder: Path) -> Path:
    out = folder / file.stem
    try:
        with zstd.open(file, "rb") as packed, out.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    except (zstd.ZstdError, EOFError) as error:
        raise BagError(f"{file} is damaged: zstd cannot decompress it ({error}); copy it again") from error
    return out


def _files_of(bag: Path) -> tuple[list[Path], Metadata | None]:
    """The storage files in their order, and the metadata where there are usable ones.

    Raises:
        BagError: there are none, or some are missing.
        OSError: the folder cannot be read.
    """
    if not bag.is_dir():
        if not bag.exists():
            raise BagError(f"there is no bag at {bag}")
        if not _is_storage(bag):
            raise BagError(f"{bag} is no bag: give a bag's folder, or an .mcap, .db3 or (ROS 1) .bag file")
        return [bag], None
    there = sorted((file for file in bag.iterdir() if _is_storage(file) and file.is_file()), key=_natural)
    missing = f"has no {METADATA_FILE}"
    try:
        metadata = read_metadata(bag / METADATA_FILE)
    except FileNotFoundError:
        if not there:
            raise BagError(f"{bag} is not a rosbag2 folder: it {missing} (`occle bag` makes bags of data sets)") from None
    except MetadataError as error:
        missing = f"has a {METADATA_FILE} that {error}"
    else:
        return _named_files(bag, metadata, there), metadata
    names = ", ".join(file.name for file in there)
    if not there or len({_format(file) for file in there}) > 1:
        raise BagError(f"{bag} {missing}, and its files are {names or 'none'}; `{_reindex(bag)}`, or give one file")
    print_notice_once(f"{bag} {missing}; {names} is read without; `{_reindex(bag)}` writes a new one")
    return there, None


def _named_files(bag: Path, metadata: Metadata, there: list[Path]) -> list[Path]:
    files = [bag / name for name in metadata.files]
    lost = [file.name for file in files if not file.exists()]
    extra = [file.name for file in there if file.name not in metadata.files]
    if lost or not files:
        others = f", there is {', '.join(extra)}" if extra else ""
        raise BagError(
            f"{bag} lacks {', '.join(lost) or 'every file'} that its {METADATA_FILE} names{others}; "
            f"copy the bag again, give one of its files, or `{_reindex(bag)}`"
        )
    if unknown := [file.name for file in files if not _is_storage(file)]:
        raise BagError(f"{bag} has files that are neither mcap nor db3: {', '.join(unknown)}; convert it with `ros2 bag convert`")
    if extra:
        print_notice_once(f"{bag}: {', '.join(extra)} is not read: its {METADATA_FILE} does not name it; `{_reindex(bag)}` adds it")
    return files


def _reindex(bag: Path) -> str:
    return f"ros2 bag reindex {shell_quote(bag)}"


def _is_storage(file: Path) -> bool:
    return not file.name.startswith(".") and _format(file) in _FORMATS


def _format(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix in _COMPRESSED else file.suffix


def _natural(file: Path) -> list[tuple[str, int]]:
    """Sort key: drive_2 before drive_10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", file.name)]
