# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Damaged mcap files: what is whole is read, and what is not is refused; a full disk damages nothing."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import CompressionType
from mcap_files import DRIVE, Content, read, write, write_official

from occle_core.bags.mcap_reader import McapFile
from occle_core.bags.storage import BagError
from occle_core.bags.writer import BagWriter, is_interrupted

FEW = DRIVE[:16]
"""What every byte of a file can be tried with."""


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
