# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""mcap files: what any writer of the format's official library writes is read, and what is damaged is refused."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as OfficialWriter

from occle_core.bags.mcap_reader import McapFile
from occle_core.bags.storage import BagError
from occle_core.bags.writer import BagWriter, is_interrupted

Content = list[tuple[str, int, bytes]]


def read(path: Path, topics: set[str] | None = None) -> Content:
    """(topic, time, data) as our reader gives them."""
    file = McapFile(path)
    try:
        numbers = [number for number, channel in file.channels.items() if topics is None or channel.topic in topics]
        return [(file.channels[number].topic, time, data) for number, time, data in file.messages(numbers)]
    finally:
        file.close()


def official(path: Path) -> Content:
    """The same from the official library, checksums and all."""
    with path.open("rb") as file:
        return [(c.topic, m.log_time, m.data) for _, c, m in make_reader(file, validate_crcs=True).iter_messages()]


def write(bag: Path, content: Content, flush_every: int = 0) -> Path:
    """The mcap file of a new bag."""
    with BagWriter(bag) as writer:
        topics = {}
        for at, (topic, time, data) in enumerate(content):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, "std_msgs/msg/String")
            writer.write(topics[topic], time, data)
            if flush_every and at % flush_every == flush_every - 1:
                writer.flush()
    return writer.file


def write_official(path: Path, content: Content, **options: object) -> None:
    with path.open("wb") as file:
        writer = OfficialWriter(file, **options)  # type: ignore[arg-type]
        writer.start("ros2", "other")
        channels: dict[str, int] = {}
        for topic, time, data in content:
            if topic not in channels:
                schema = writer.register_schema("demo_msgs/msg/T", "ros2msg", b"uint8[] data")
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], time, data, time)
        writer.finish()


DRIVE: Content = [
    (topic, 10**18 + i * 10**8 + k, bytes([i, k]) * (20 + 7 * k)) for i in range(12) for k, topic in enumerate(("/a", "/b/ü", "/c"))
]

FEW = DRIVE[:16]
"""What every byte of a file can be tried with."""


def test_the_official_reader_reads_what_we_write(tmp_path: Path) -> None:
    path = write(tmp_path / "x", DRIVE, flush_every=5)
    assert official(path) == DRIVE == read(path)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert (summary.statistics.message_count, summary.statistics.chunk_count) == (36, 8)
        assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (DRIVE[0][1], DRIVE[-1][1])
        assert [m.log_time for _, _, m in reader.iter_messages(topics="/c")] == [time for topic, time, _ in DRIVE if topic == "/c"]
        ((name, metadata),) = [(m.name, m.metadata) for m in reader.iter_metadata()]
        assert name == "rosbag2" and yaml.safe_load(metadata["serialized_metadata"])["message_count"] == 36
        assert reader.get_header().profile == "ros2"


content = st.lists(
    st.tuples(st.sampled_from(["/a", "/b", "/c"]), st.integers(0, 50), st.binary(max_size=30)), max_size=40
)  # times of any order, and often the same


@given(content, st.integers(0, 7))
@example([("/a", 1, b""), ("/a", 1, b"0"), ("/a", 0, b""), ("/a", 1, b"")], 2)  # one time in two chunks
def test_any_content_comes_back_in_time_order(tmp_path_factory: pytest.TempPathFactory, messages: Content, every: int) -> None:
    path = write(tmp_path_factory.mktemp("mcap") / "x", messages, every)
    expected = sorted(messages, key=lambda message: message[1])  # stable: of one time as they were written
    assert read(path) == expected
    assert sorted(official(path)) == sorted(messages)
    assert read(path, {"/a"}) == [message for message in expected if message[0] == "/a"]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": CompressionType.NONE},
        {"compression": CompressionType.LZ4, "chunk_size": 200},
        {"compression": CompressionType.NONE, "use_chunking": False},
        {"compression": CompressionType.NONE, "chunk_size": 200, "index_types": IndexType.NONE},
        {"compression": CompressionType.NONE, "chunk_size": 200, "use_statistics": False},
        {"compression": CompressionType.NONE, "chunk_size": 200, "repeat_channels": False, "repeat_schemas": False},
        {"compression": CompressionType.NONE, "chunk_size": 200, "enable_crcs": False, "use_summary_offsets": False},
    ],
    ids=lambda options: ",".join(f"{key}={getattr(value, 'name', value)}" for key, value in options.items()),
)
def test_we_read_what_the_official_writer_writes(
    tmp_path: Path, options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    write_official(tmp_path / "x.mcap", DRIVE, **options)
    assert read(tmp_path / "x.mcap") == DRIVE
    assert read(tmp_path / "x.mcap", {"/b/ü"}) == [message for message in DRIVE if message[0] == "/b/ü"]
    file = McapFile(tmp_path / "x.mcap")
    assert (file.start, file.end, file.cut_off) == (DRIVE[0][1], DRIVE[-1][1], "")
    assert {file.channels[number].topic: count for number, count in file.counts.items()} == {"/a": 12, "/b/ü": 12, "/c": 12}
    file.close()
    assert not capsys.readouterr().err


def test_what_was_flushed_is_there_for_everyone_while_the_file_is_open(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "x") as writer:
        topic, path = writer.add_connection("/a", "std_msgs/msg/String"), writer.file
        for time in range(3):
            writer.write(topic, time, b"x")
        writer.flush()
        writer.write(topic, 3, b"only in memory")
        assert read(path) == [("/a", time, b"x") for time in range(3)]
        found = []
        with path.open("rb") as file, pytest.raises(EndOfFile):  # the official reader: all there is, then the missing end
            for record in StreamReader(file, validate_crcs=True).records:
                found += [record.log_time] if isinstance(record, Message) else []
        assert found == [0, 1, 2]
        assert is_interrupted(path)
    assert not is_interrupted(path)
    assert len(read(path)) == 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of FEW in four chunks."""
    return write(tmp_path_factory.mktemp("small") / "x", FEW, flush_every=5).read_bytes()


def test_every_truncation_gives_the_whole_chunks_before_it(tmp_path: Path, small: bytes) -> None:
    whole = small
    chunk_ends = ends_of_chunks(whole)
    assert len(chunk_ends) == 4
    path, refused = tmp_path / "x.mcap", 0
    for size in range(len(whole)):
        path.unlink(missing_ok=True)  # a new file, so that no index of the one before is used
        path.write_bytes(whole[:size])
        expected = FEW[: 5 * sum(end <= size for end in chunk_ends)]
        if not expected:
            refused += 1
            with pytest.raises(BagError, match=r"no message in it is whole|is empty \(0 bytes\)"):
                McapFile(path)
            continue
        file = McapFile(path)
        assert file.cut_off, size
        file.close()
        assert read(path) == expected, size
    assert refused == chunk_ends[0]


def ends_of_chunks(data: bytes) -> list[int]:
    """Offsets behind the chunks, by a walk of its own over opcodes and lengths."""
    at, ends = 8, []
    while at < len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, at)
        at += 9 + length
        if opcode == 6:
            ends.append(at)
    return ends


def overwritten(whole: bytes, data: st.DataObject) -> bytes:
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at, new = data.draw(st.integers(0, len(broken) - 1)), data.draw(st.binary(min_size=1, max_size=12))
        broken[at : at + len(new)] = new[: len(broken) - at]
    return bytes(broken)


@given(st.data())
def test_overwritten_bytes_give_a_right_prefix_or_an_error(
    small: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    right_or_refused(tmp_path_factory.mktemp("broken") / "x.mcap", overwritten(small, data), FEW)


OTHERS: dict[str, dict[str, object]] = {
    "zstd": {"chunk_size": 200},
    "lz4": {"chunk_size": 200, "compression": CompressionType.LZ4},
    "zstd without checksums": {"chunk_size": 200, "enable_crcs": False},
    "lz4 without checksums": {"chunk_size": 200, "compression": CompressionType.LZ4, "enable_crcs": False},
    "plain without checksums": {"chunk_size": 200, "compression": CompressionType.NONE, "enable_crcs": False},
    "without chunks": {"use_chunking": False, "compression": CompressionType.NONE},
}


@pytest.mark.parametrize("kind", OTHERS)
@given(data=st.data())
def test_overwritten_bytes_of_other_writers(kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """With checksums as above; without them nobody can tell a message, but it is never anything else than BagError."""
    path = tmp_path_factory.mktemp("other") / "x.mcap"
    write_official(path, DRIVE, **OTHERS[kind])
    right_or_refused(path, overwritten(path.read_bytes(), data), DRIVE, has_checksums=kind in ("zstd", "lz4"))


def test_every_single_byte_overwritten(tmp_path: Path, small: bytes) -> None:
    for at in range(0, len(small)):
        for value in (0x00, 0xFF) if at % 3 == 0 else (small[at] ^ 0x01,):
            broken = bytearray(small)
            broken[at] = value
            right_or_refused(tmp_path / "x.mcap", bytes(broken), FEW)


def right_or_refused(path: Path, data: bytes, right: Content, has_checksums: bool = True) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    got: Content = []
    is_read = False
    try:
        file = McapFile(path)
        try:
            for number, time, message in file.messages(list(file.channels)):
                got.append((file.channels[number].topic, time, message))
        finally:
            file.close()
        is_read = not file.cut_off
    except BagError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    if has_checksums:
        assert got == right[: len(got)] and (not is_read or len(got) == len(right))


LENGTHS = {
    "header": (9, "<Q"),
    "profile": (17, "<I"),
    "library": (25, "<I"),
    "chunk": (35, "<Q"),
    "uncompressed": (59, "<Q"),
    "compression": (71, "<I"),
    "compressed": (75, "<Q"),
}


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("value", [1 << 31, 1 << 35, (1 << 63) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("kind", LENGTHS)
def test_absurd_lengths_take_no_memory(small: bytes, tmp_path: Path, kind: str, value: int, is_cut: bool) -> None:
    """The lengths of the header and of the first chunk, in a whole file and in one that has to be read from the beginning."""
    at, layout = LENGTHS[kind]
    (uncompressed,), (compressed,) = struct.unpack_from("<Q", small, 59), struct.unpack_from("<Q", small, 75)
    assert uncompressed == compressed < 2000, "the chunk is not where it was"
    broken = bytearray(small[:-1] if is_cut else small)
    struct.pack_into(layout, broken, at, value & ((1 << 8 * struct.calcsize(layout)) - 1))
    free, limits = 1 << 30, resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_in_use() + free, limits[1]))
    try:
        right_or_refused(tmp_path / "x.mcap", bytes(broken), FEW)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def memory_in_use() -> int:
    """Bytes of address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.parametrize("bytes_free", [0, 1, 300, 700, 1500, 6000])
def test_a_write_that_fails_leaves_the_whole_chunks(tmp_path: Path, bytes_free: int) -> None:
    """A limit on the size of files, which acts as a full disk."""
    writer = BagWriter(tmp_path / "x")
    topic = writer.add_connection("/a", "std_msgs/msg/String")
    for time in range(20):
        writer.write(topic, time, b"x" * 50)
    writer.flush()
    size, before = writer.size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for time in range(20, 120):
        writer.write(topic, time, b"x" * 50)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + bytes_free, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*x\.mcap"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()  # there is room again, but a part of the data is lost
    assert (writer.message_count, writer.size, writer.file.stat().st_size) == (20, size, size)
    assert is_interrupted(writer.file)
    assert read(writer.file) == [("/a", time, b"x" * 50) for time in range(20)]


def test_the_end_that_does_not_fit_leaves_the_messages(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "x")
    writer.write(writer.add_connection("/a", "std_msgs/msg/String"), 7, b"x" * 5000)
    writer.flush()
    size, before = writer.size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 900, before[1]))  # metadata.yaml fits, the summary does not
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert writer.file.stat().st_size == size and read(writer.file) == [("/a", 7, b"x" * 5000)]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty", b"", r"is empty \(0 bytes\)"),
        ("foreign", b"PK\x03\x04 a zip file", "is not an mcap file: it begins with b'PK"),
        ("magic", b"\x89MCAP0\r\n", "no message in it is whole"),
    ],
)
def test_what_is_no_mcap_file_is_said(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BagError, match=message):
        McapFile(tmp_path / name)
