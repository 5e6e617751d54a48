# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SQLite bags with any damage: refused or read, never a traceback."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from bag_files import Content, content
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES, BagError


@pytest.fixture(scope="module")
def small_db3(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Content]:
    folder = tmp_path_factory.mktemp("small")
    with Writer(folder / "x", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = writer.add_connection("/t", "std_msgs/msg/String", typestore=TYPES)
        for number in range(20):
            writer.write(topic, number, bytes([number]) * 400)
    return (folder / "x" / "x.db3").read_bytes(), content(folder / "x")


def db3_messages(path: Path, data: bytes) -> Content | None:
    """None: refused."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    got: Content = []
    try:
        with open_bag(path) as reader:
            for connection, time, message in reader.messages():
                got.append((connection.topic, time, message))
    except BagError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return None
    return got


def test_every_truncation_of_a_db3_is_refused(tmp_path: Path, small_db3: tuple[bytes, Content]) -> None:
    data, whole = small_db3
    assert db3_messages(tmp_path / "x.db3", data) == whole
    for size in [*range(0, 120), *range(120, len(data), 7), *range(len(data) - 20, len(data))]:
        assert db3_messages(tmp_path / "x.db3", data[:size]) is None, size


@given(st.data())
def test_overwritten_bytes_of_a_db3_never_end_in_a_traceback(
    small_db3: tuple[bytes, Content], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    broken = bytearray(small_db3[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at, new = data.draw(st.integers(0, len(broken) - 1)), data.draw(st.binary(min_size=1, max_size=100))
        broken[at : at + len(new)] = new[: len(broken) - at]
    db3_messages(tmp_path_factory.mktemp("broken") / "x.db3", bytes(broken))


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        (b"topic_id INTEGER NOT NULL", b"topic_id INTEGER NOT \x80ULL"),  # SQLite's error quotes it
        (b"string data\n", b"\x80tring data\n"),  # a text of two lines
        (b"std_msgs/msg/Stringcdr", b"std_msgs\x80msg/Stringcdr"),
    ],
)
def test_texts_of_a_db3_that_are_no_utf8(tmp_path: Path, small_db3: tuple[bytes, Content], text: bytes, damaged: bytes) -> None:
    assert text in small_db3[0]
    assert db3_messages(tmp_path / "x.db3", small_db3[0].replace(text, damaged)) is None


def test_a_log_that_sqlite_left_is_read_too(tmp_path: Path, small_db3: tuple[bytes, Content]) -> None:
    """A recorder that was killed in WAL mode: the newest messages are in x.db3-wal only."""
    source = tmp_path / "source.db3"
    source.write_bytes(small_db3[0])
    database = sqlite3.connect(source)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("INSERT INTO messages VALUES (500, 1, 50, ?)", (b"new",))
    database.commit()
    for end in ("", "-wal"):
        shutil.copy(f"{source}{end}", tmp_path / f"x.db3{end}")
    database.close()
    assert content(tmp_path / "x.db3") == [*small_db3[1], ("/t", 50, b"new")]
