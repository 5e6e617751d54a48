# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occle_core.atomic_file import atomic_write, write_json, writing_into


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077, 0o027])
def test_the_mode_is_what_the_umask_asks_for(tmp_path: Path, umask: None, mask: int) -> None:
    os.umask(mask)
    with open(tmp_path / "plain", "w"):
        pass
    with atomic_write(tmp_path / "new" / "report.json") as temporary:
        temporary.write_text("x")
    expected = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "new" / "report.json").stat().st_mode) == expected == 0o666 & ~mask


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "frame.npz"
    file.write_text("old")
    with atomic_write(file) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".npz"
        np.savez(temporary, a=1)
        assert file.read_text() == "old"
    assert np.load(file)["a"] == 1
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "weights"
    file.write_text("old")
    with pytest.raises(type(error)), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise error
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_names_of_any_length_and_script(tmp_path: Path) -> None:
    for name in ("x" * 250 + ".json", "ü" * 120, "straße #1 100%.json", "-"):
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).read_text() == name


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"), atomic_write(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def refuse(token: str) -> float:
    raise AssertionError(f"{token} is not JSON")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(values)
def test_json_is_json_and_says_the_same(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.mktemp("json") / "x.json"
    write_json(file, value)
    assert same(json.loads(file.read_text("utf-8"), parse_constant=refuse), value)


def same(read: object, given: object) -> bool:
    if isinstance(given, float) and not math.isfinite(given):
        return read is None
    if isinstance(given, dict):
        return isinstance(read, dict) and read.keys() == given.keys() and all(same(read[key], given[key]) for key in given)
    if isinstance(given, (list, tuple)):
        return isinstance(read, list) and len(read) == len(given) and all(same(a, b) for a, b in zip(read, given))
    return read == given and type(read) is type(given)


def test_numpy_values_become_plain_ones(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": np.array([1.0, np.nan]), "c": np.int64(3), "d": (np.bool_(True),)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 0.5, "b": [1.0, None], "c": 3, "d": [True]}


def test_what_json_has_no_form_for_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_unless_somebody_writes(tmp_path: Path) -> None:
    def left(folder: str) -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        file = tmp_path / folder / ".0123456789ab.part.npz"
        file.write_text("half")
        return file

    before, whole = left("scene"), tmp_path / "scene" / "000001.npz"
    whole.write_text("whole")
    with writing_into(tmp_path):
        assert not before.exists() and whole.exists()
        at_work = left("scene")
        with writing_into(tmp_path):
            assert at_work.exists()
    with writing_into(tmp_path / "new"):
        assert (tmp_path / "new").is_dir() and at_work.exists()
