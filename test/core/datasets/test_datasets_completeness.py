# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Missing files are counted by sequence and named before a long run begins."""

from types import SimpleNamespace

import pytest

from occle_core.datasets import DatasetError
from occle_core.datasets.completeness import require_frames


def sequence(folder, name, there, empty=()):
    (folder / name).mkdir()
    for i in there:
        (folder / name / f"{i}.bin").write_bytes(b"" if i in empty else b"1")
    return SimpleNamespace(name=name, files=lambda i: [folder / name / f"{i}.bin", folder / name / "0.bin"])


def test_all_are_there(tmp_path):
    data = sequence(tmp_path, "a", range(3))
    require_frames((data, i) for i in range(3))


def test_missing_and_empty_files_are_counted_by_sequence(tmp_path):
    whole, part = sequence(tmp_path, "a", range(4)), sequence(tmp_path, "b", [0, 2], empty=[2])
    frames = [(data, i) for data in (whole, part) for i in (0, 1, 2, 3)]
    with pytest.raises(DatasetError) as error:
        require_frames(frames + frames)
    files = ", ".join(str(tmp_path / "b" / f"{i}.bin") for i in (1, 2, 3))
    assert str(error.value).startswith(f"3 files are missing or empty, of sequences b (3); the first: {files}. Download them")


def test_a_long_list_is_shortened(tmp_path):
    parts = [sequence(tmp_path, f"{k:02d}", []) for k in range(13)]
    with pytest.raises(DatasetError, match=r"26 files.*\(2\) and 3 more; the first") as error:
        require_frames((data, i) for data in parts for i in (0, 1))
    assert str(error.value).count(".bin") == 3
