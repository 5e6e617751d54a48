# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""mcap files: what any writer of the format's official library writes is read, and what we write is read by it."""

from __future__ import annotations

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
from mcap_files import DRIVE, Content, official, read, write, write_official

from occle_core.bags.mcap_reader import McapFile
from occle_core.bags.writer import BagWriter, is_interrupted


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
