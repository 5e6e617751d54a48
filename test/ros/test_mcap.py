"""mcap files: ours against the format's official library, whichever wrote and whichever reads, and what is damaged."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as OfficialWriter

from occle_ros.bag_storage import BagError
from occle_ros.mcap_index import is_finished
from occle_ros.mcap_reader import McapFile
from occle_ros.mcap_writer import McapWriter, is_being_written

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


def write(path: Path, content: Content, flush_every: int = 0) -> list[int]:
    """Write with ours; returns the sizes after each flush."""
    writer, numbers, sizes = McapWriter(path), dict[str, int](), []
    for at, (topic, time, data) in enumerate(content):
        if topic not in numbers:
            numbers[topic] = len(numbers) + 1
            writer.add_schema(numbers[topic], f"demo_msgs/msg/T{numbers[topic]}", "ros2msg", "uint8[] data")
            writer.add_channel(numbers[topic], numbers[topic], topic, {"offered_qos_profiles": f"- depth: {numbers[topic]}"})
        writer.write(numbers[topic], time, data)
        if flush_every and at % flush_every == flush_every - 1:
            writer.flush()
            sizes.append(writer.size)
    writer.finish({"serialized_metadata": "version: 9"})
    return sizes


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


def test_the_official_reader_reads_what_we_write(tmp_path: Path) -> None:
    write(tmp_path / "x.mcap", DRIVE, flush_every=5)
    assert official(tmp_path / "x.mcap") == DRIVE == read(tmp_path / "x.mcap")
    with (tmp_path / "x.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert (summary.statistics.message_count, summary.statistics.chunk_count) == (36, 8)
        assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (DRIVE[0][1], DRIVE[-1][1])
        assert {c.topic: c.metadata for c in summary.channels.values()}["/c"] == {"offered_qos_profiles": "- depth: 3"}
        assert [(m.name, m.metadata) for m in reader.iter_metadata()] == [("rosbag2", {"serialized_metadata": "version: 9"})]
        assert reader.get_header().profile == "ros2"
        assert [m.log_time for _, _, m in reader.iter_messages(topics="/c")] == [time for topic, time, _ in DRIVE if topic == "/c"]


content = st.lists(
    st.tuples(st.sampled_from(["/a", "/b", "/c"]), st.integers(0, 50), st.binary(max_size=30)), max_size=40
)  # times of any order, and often the same


@given(content, st.integers(0, 7))
@example([("/a", 1, b""), ("/a", 1, b"0"), ("/a", 0, b""), ("/a", 1, b"")], 2)  # one time in two chunks
def test_any_content_comes_back_in_time_order(tmp_path_factory: pytest.TempPathFactory, messages: Content, every: int) -> None:
    path = tmp_path_factory.mktemp("mcap") / "x.mcap"
    write(path, messages, every)
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
    path = tmp_path / "x.mcap"
    writer = McapWriter(path)
    writer.add_schema(1, "demo_msgs/msg/T", "ros2msg", "")
    writer.add_channel(1, 1, "/a", {})
    for time in range(3):
        writer.write(1, time, b"x")
    writer.flush()
    writer.write(1, 3, b"only in memory")
    assert read(path) == [("/a", time, b"x") for time in range(3)]
    with path.open("rb") as file, pytest.raises(McapError):  # the official reader: all there is, then the missing end
        found = []
        for record in StreamReader(file, validate_crcs=True).records:
            found += [record.log_time] if isinstance(record, Message) else []
    assert found == [0, 1, 2]
    assert is_being_written(path) and not is_finished(path)
    writer.finish({})
    assert not is_being_written(path) and is_finished(path)
    assert len(read(path)) == 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A file of eight chunks, and where they end."""
    path = tmp_path_factory.mktemp("small") / "x.mcap"
    sizes = write(path, DRIVE, flush_every=5)
    return path.read_bytes(), sizes


def test_every_truncation_gives_the_whole_chunks_before_it(tmp_path: Path, small: tuple[bytes, list[int]]) -> None:
    whole, _ = small
    chunk_ends = ends_of_chunks(whole)
    assert len(chunk_ends) == 8
    path, refused = tmp_path / "x.mcap", 0
    for size in range(len(whole)):
        path.unlink(missing_ok=True)  # a new file, so that no index of the one before is used
        path.write_bytes(whole[:size])
        expected = DRIVE[: min(5 * sum(end <= size for end in chunk_ends), len(DRIVE))]
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


@given(st.data())
def test_overwritten_bytes_give_a_right_prefix_or_an_error(
    small: tuple[bytes, list[int]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    broken = bytearray(small[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at, new = data.draw(st.integers(0, len(broken) - 1)), data.draw(st.binary(min_size=1, max_size=12))
        broken[at : at + len(new)] = new[: len(broken) - at]
    right_or_refused(tmp_path_factory.mktemp("broken") / "x.mcap", bytes(broken))


def test_every_single_byte_overwritten(tmp_path: Path, small: tuple[bytes, list[int]]) -> None:
    for at in range(0, len(small[0])):
        for value in (0x00, 0xFF) if at % 3 == 0 else (small[0][at] ^ 0x01,):
            broken = bytearray(small[0])
            broken[at] = value
            right_or_refused(tmp_path / "x.mcap", bytes(broken))


def right_or_refused(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    got: Content = []
    try:
        file = McapFile(path)
        try:
            for number, time, message in file.messages(list(file.channels)):
                got.append((file.channels[number].topic, time, message))
        finally:
            file.close()
    except BagError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert got == DRIVE or file.cut_off
    assert got == DRIVE[: len(got)]


@pytest.mark.parametrize("bytes_free", [0, 1, 300, 700, 1500])
def test_a_write_that_fails_leaves_the_whole_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_free: int) -> None:
    path = tmp_path / "x.mcap"
    writer = McapWriter(path)
    writer.add_schema(1, "demo_msgs/msg/T", "ros2msg", "")
    writer.add_channel(1, 1, "/a", {})
    for time in range(20):
        writer.write(1, time, b"x" * 50)
    writer.flush()
    full_at, pwrite = writer.size + bytes_free, os.pwrite

    def limited(file: int, data: memoryview, offset: int) -> int:
        if offset >= full_at:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[: full_at - offset], offset)

    monkeypatch.setattr(os, "pwrite", limited)
    for time in range(20, 60):
        writer.write(1, time, b"x" * 50)
    with pytest.raises(OSError, match=r"No space left on device: .*x\.mcap"):
        writer.flush()
    if bytes_free < 700:
        with pytest.raises(OSError, match="No space left"):
            writer.finish({})
    else:
        writer.finish({})
        assert is_finished(path)
    assert read(path) == [("/a", time, b"x" * 50) for time in range(20)]


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
