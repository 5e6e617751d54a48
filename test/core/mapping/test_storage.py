# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Map files: what is written comes back; what is no map is refused in a line."""

import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from map_frames import BUILDING, CAR, CLASSES, GRID, SECOND, center, occupancy, pose, scan, state

from occle_core import taxonomy
from occle_core.mapping import MapConfig, RollingMap
from occle_core.mapping.storage import ARRAYS, HEADER, MapFileError, load_map, save_map
from occle_core.occupancy import Occupancy

SMALL = MapConfig(size=(16.0, 16.0, 6.4))


@pytest.fixture
def world():
    rolling = RollingMap(CLASSES, SMALL, "map")
    rolling.update(occupancy([(8, 8, 4)]), scan([(3, 1, 0)]), pose(100.3, -7.7, 0.9, 0.4), 5 * SECOND)
    rolling.update(occupancy([(6, 8, 4)], CAR), scan([(3, 1, 0)]), pose(100.9, -7.7, 0.9, 0.4), 6 * SECOND)
    return rolling


def test_a_map_comes_back_as_it_was(world, tmp_path):
    shot = world.snapshot()
    save_map(tmp_path / "deep" / "a.occlemap", shot)
    back = load_map(tmp_path / "deep" / "a.occlemap")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(back, name), getattr(shot, name))
    assert back.grid == shot.grid and back.config == shot.config and back.taxonomy.name == "semantickitti"
    assert (back.stamp, back.robot, back.frame_id) == (6 * SECOND, shot.robot, "map")
    assert (tmp_path / "deep" / "a.occlemap").stat().st_size < 20_000


def test_a_class_list_of_ones_own_travels_with_the_map(tmp_path):
    """Nothing else knows it by its name. A list of that name whose ids mean something else is another one."""
    colors = {name: (number, 10, 20) for number, name in enumerate(("shelf", "floor", "nothing", "rope"))}
    classes = taxonomy.TaxonomyConfig(name="yard", classes=colors, free="nothing", thin=("rope",), voxels={1: 0})
    labels = np.full(GRID.shape, 2, np.uint8)
    labels[8, 8, 4] = 3
    own = Occupancy.of_volumes(labels, np.full(GRID.shape, 0.9, np.float16), GRID, taxonomy.load(classes))
    rolling = RollingMap(own.taxonomy, SMALL)
    rolling.update(own, scan(), pose(), SECOND)
    save_map(tmp_path / "a.occlemap", rolling.snapshot())
    back = load_map(tmp_path / "a.occlemap")
    assert state(back, center((8, 8, 4)))[1] == 3
    for name in ("name", "names", "free", "thin"):
        assert getattr(back.taxonomy, name) == getattr(own.taxonomy, name)
    np.testing.assert_array_equal(back.taxonomy.colors, own.taxonomy.colors)
    RollingMap(own.taxonomy, SMALL).restore(back)
    turned = taxonomy.load(classes.model_copy(update={"classes": dict(reversed(colors.items()))}))
    with pytest.raises(ValueError, match=r"holds yard \(shelf, .*, this one yard \(rope, "):
        RollingMap(turned, SMALL).restore(back)
    with pytest.raises(ValueError, match=r"map holds yard \(shelf, .*, the occupancy yard \(rope, "):
        rolling.update(replace(own, taxonomy=turned), scan(), pose(), SECOND)


def test_a_restored_map_goes_on(world, tmp_path):
    save_map(tmp_path / "a.occlemap", world.snapshot())
    other = RollingMap(CLASSES, SMALL)
    other.restore(load_map(tmp_path / "a.occlemap"))
    np.testing.assert_array_equal(other.snapshot().log_odds, world.snapshot().log_odds)
    world.resume()  # as after a pause: what is saved then is still of the last frame
    assert [(shot.stamp, shot.robot) for shot in (other.snapshot(), world.snapshot())] == [(6 * SECOND, (100.9, -7.7, 0.9))] * 2
    T = pose(101.5, -7.7, 0.9, 0.4)
    for rolling in (world, other):
        assert rolling.update(occupancy(base=255), scan(), T, 7 * SECOND).accepted
    where = pose(100.3, -7.7, 0.9, 0.4) @ np.append(center((8, 8, 4)), 1)
    assert state(other.snapshot(), where[:3])[1] == BUILDING


def test_a_map_of_another_place_is_said_to_be_gone(world):
    """The first frame that restores nothing of it, and it alone; near the map all is well."""
    for x, reasons in ((101.5, ["", ""]), (0.0, ["outside_map", ""])):
        other = RollingMap(CLASSES, SMALL)
        other.restore(world.snapshot())
        T = pose(x, -7.7, 0.9)
        assert [other.update(occupancy(base=255), scan(), T, number * SECOND).restarted for number in (1, 2)] == reasons
        assert other.is_empty == (x == 0.0)


def test_a_map_of_another_size_or_other_classes_is_not_restored(world):
    with pytest.raises(ValueError, match="configure the same size"):
        RollingMap(CLASSES, MapConfig()).restore(world.snapshot())
    with pytest.raises(ValueError, match="semantickitti classes, this one"):
        RollingMap(taxonomy.load("occ3d_nuscenes"), SMALL).restore(world.snapshot())


def rewritten(path, header=lambda h: h, drop=(), **arrays):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[HEADER] = json.dumps(header(json.loads(parts[HEADER]))).encode()
    parts |= arrays
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            if name not in drop:
                archive.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(header=lambda h: h | {"version": 2}), "version 2; this occle reads version 1"),
        (dict(header=lambda h: h | {"format": "other"}), "does not say that this is an occle-map"),
        (dict(header=lambda h: [h]), "does not say that this is an occle-map"),
        (dict(header=lambda h: h | {"shape": [1 << 20, 1 << 20, 1 << 19]}), "not that of its configuration"),
        (dict(header=lambda h: h | {"shape": [-1, 2, 2]}), "shape"),
        (dict(header=lambda h: h | {"robot": [0, 0, None]}), "robot"),
        (dict(header=lambda h: h | {"taxonomy": "nothing"}), "no taxonomy is called"),
        (dict(header=lambda h: h | {"more": 1}), "more"),
        (dict(header=lambda h: h | {"config": h["config"] | {"size": [1e9, 1e9, 1e9]}, "shape": [9, 9, 9]}), "configuration"),
        (dict(drop=("labels",)), "has no array labels"),
        (dict(drop=(HEADER,)), "no usable map.json"),
        (dict(votes=b"123"), "votes has 3 bytes"),
        (dict(labels=bytes([77]) * (40 * 40 * 16)), "labels that semantickitti does not have"),
        (dict(**{HEADER: b"{"}), "is no JSON"),
    ],
)
def test_foreign_and_damaged_content_is_refused_in_a_line(world, tmp_path, change, message):
    path = tmp_path / "a.occlemap"
    save_map(path, world.snapshot())
    rewritten(path, **change)
    with pytest.raises(MapFileError, match=message) as error:
        load_map(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"# not a map\n", pickle.dumps({"a": 1}), bytes(1000)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(MapFileError, match="no readable map file"):
        load_map(tmp_path / "x")
    with pytest.raises(MapFileError, match="no such file"):
        load_map(tmp_path / "y")
    with pytest.raises(MapFileError, match="no readable map file"):
        load_map(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_refused_or_harmless(world, tmp_path, data):
    """Cut or overwritten files never raise anything but MapFileError."""
    path = tmp_path / "a.occlemap"
    save_map(path, world.snapshot())
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
            content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load_map(path)
    except MapFileError as error:
        assert "\n" not in str(error)


def test_a_full_disk_leaves_the_old_file(world, tmp_path, monkeypatch):
    path = tmp_path / "a.occlemap"
    save_map(path, world.snapshot())
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        save_map(path, world.snapshot())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
