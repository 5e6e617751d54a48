# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Height bands, ground, distances and objects of hand-made maps, against loops, scipy and edt."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_frames import BUILDING, CAR, CLASSES, PERSON, ROAD

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapConfig, MapSnapshot
from occle_core.mapping.classes import dynamic, ground, lookup
from occle_core.mapping.distance import distance_2d, distance_3d
from occle_core.mapping.layers import (
    DRIVABLE,
    OBSTACLE,
    UNKNOWN,
    HeightBand,
    filled_elevation,
    ground_elevation,
    project_bands,
)
from occle_core.mapping.objects import find_objects

TRUCK, SIDEWALK = CLASSES.id("truck"), CLASSES.id("sidewalk")


def snapshot(cells, shape=(12, 10, 8), origin=(-2.0, 4.0, -1.6)):
    """A map whose listed cells {(i, j, k): label} are occupied and all others free."""
    log_odds, labels = np.full(shape, -16, np.int8), np.full(shape, 255, np.uint8)
    for cell, label in cells.items():
        log_odds[cell], labels[cell] = 40, label
    config = MapConfig(size=tuple(n * 0.4 for n in shape))
    return MapSnapshot(log_odds, labels, np.zeros(shape, np.uint8), VoxelGrid(origin, shape, 0.4), CLASSES, config)


FLOOR = {(i, j, 1): ROAD for i, j in product(range(12), range(10))}


def test_bands_of_a_street_with_a_car_below_a_bridge():
    street = FLOOR | {(3, 3, 2): CAR, (3, 3, 3): CAR, (7, 7, 7): BUILDING, (9, 1, 3): 255, (5, 5, 2): 255, (0, 0, 1): SIDEWALK}
    shot = snapshot(street)
    low, high, road = project_bands(shot, [HeightBand(0.3, 1.0), HeightBand(2.0, 2.5), HeightBand(0.3, 1.0, drivable={"road"})])
    assert set(map(tuple, np.argwhere(low == OBSTACLE))) == {(3, 3), (9, 1)}
    assert set(map(tuple, np.argwhere(high == OBSTACLE))) == {(7, 7)}
    assert (low[low != OBSTACLE] == DRIVABLE).all()
    assert road[0, 0] == UNKNOWN and road[0, 1] == DRIVABLE


def test_ground_is_never_an_obstacle_on_a_slope_and_unmapped_ground_is_unknown():
    slope = {(i, j, 1 + i // 3): ROAD for i, j in product(range(10), range(10))}
    (layer,) = project_bands(snapshot(slope | {(8, 5, 4): PERSON}), [HeightBand(0.3, 2.0)])
    assert (layer[:10] != OBSTACLE).sum() == 99 and layer[8, 5] == OBSTACLE
    assert (layer[10:] == UNKNOWN).all()


def test_a_map_without_ground_is_unknown_everywhere():
    (layer,) = project_bands(snapshot({(3, 3, 3): CAR}), [HeightBand()])
    assert (layer == UNKNOWN).all()
    (layer,) = project_bands(snapshot({}), [HeightBand()])
    assert (layer == UNKNOWN).all()


def test_elevation_is_the_top_of_the_lowest_ground():
    shot = snapshot({(0, 0, 1): ROAD, (0, 0, 2): ROAD, (0, 0, 6): ROAD, (1, 0, 3): SIDEWALK, (2, 0, 3): CAR})
    elevation = ground_elevation(shot)
    assert elevation[0, 0] == pytest.approx(-1.6 + 2.5 * 0.4)
    assert elevation[1, 0] == pytest.approx(-1.6 + 3.5 * 0.4)
    assert np.isnan(elevation).sum() == 12 * 10 - 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.5))
def test_gaps_of_the_ground_take_the_nearest_column(seed, share):
    rng = np.random.default_rng(seed)
    elevation = np.where(rng.random((12, 10)) < share, rng.normal(size=(12, 10)), np.nan).astype(np.float32)
    known = np.argwhere(np.isfinite(elevation))
    filled = filled_elevation(snapshot({}), elevation)
    if not len(known):
        assert np.isnan(filled).all()
        return
    for cell in product(range(12), range(10)):
        distance = np.hypot(*(known - cell).T)
        # The 5 x 5 chamfer distance may prefer one that is up to a few percent farther.
        near = known[distance <= distance.min() * 1.1 + 1e-6]
        assert filled[cell] in elevation[tuple(near.T)]


@given(st.integers(0, 10_000), st.floats(0.0, 0.4))
def test_distances_from_above_are_those_of_a_loop(seed, share):
    layer = np.where(np.random.default_rng(seed).random((9, 13)) < share, OBSTACLE, DRIVABLE).astype(np.uint8)
    obstacles = np.argwhere(layer == OBSTACLE)
    found = distance_2d(layer, 0.4)
    for cell in product(range(9), range(13)):
        expected = np.hypot(*(obstacles - cell).T).min() * 0.4 if len(obstacles) else np.inf
        assert found[cell] == pytest.approx(expected, rel=1e-5)


def test_distances_in_space_are_those_of_scipy():
    pytest.importorskip("edt", reason="the extra `map` is not installed")
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
    rng = np.random.default_rng(4)
    solid = {tuple(c): BUILDING for c in rng.integers(0, (12, 10, 8), (15, 3))}
    shot = snapshot(FLOOR | solid)
    expected = ndimage.distance_transform_edt(~(shot.occupied & (shot.labels == BUILDING)), sampling=0.4)
    np.testing.assert_allclose(distance_3d(shot), expected, rtol=1e-5)
    assert np.isinf(distance_3d(snapshot(FLOOR))).all()


def test_distances_in_space_without_edt_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "edt", None)
    with pytest.raises(ImportError, match=r"pip install 'occle_ros\[map\]'"):
        distance_3d(snapshot({}))


def test_objects_are_apart_by_group_and_mixed_within_one():
    car = {(i, j, k): CAR for i, j, k in product(range(2, 6), range(2, 4), range(2, 4))}
    car[(2, 2, 2)] = TRUCK
    person = {(6, 3, k): PERSON for k in range(2, 6)}
    small = {(10, 9, 2): CAR}
    found = find_objects(snapshot(FLOOR | car | person | small))
    assert [(o.label, o.cells) for o in found] == [(CAR, 16), (PERSON, 4)]
    assert found[0].center == pytest.approx((-2 + 4 * 0.4, 4 + 3 * 0.4, -1.6 + 3 * 0.4), abs=1e-5)
    assert found[0].size == pytest.approx((1.6, 0.8, 0.8), abs=1e-5)
    assert abs(np.sin(found[0].yaw)) < 1e-6
    assert 0.9 < found[0].probability < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_objects_are_scipys_connected_components_from_above(seed):
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
    rng = np.random.default_rng(seed)
    shot = snapshot({tuple(c): CAR for c in rng.integers(0, (12, 10, 8), (25, 3))})
    parts, count = ndimage.label(shot.occupied.any(axis=2), np.ones((3, 3)))
    cells = [int((shot.occupied & (parts == n)[:, :, None]).sum()) for n in range(1, count + 1)]
    assert sorted(o.cells for o in find_objects(shot, min_cells=1)) == sorted(cells)


def test_a_turned_car_has_a_turned_box():
    yaw, cells = 0.6, {}
    for along, across in product(np.arange(-2.2, 2.2, 0.05), np.arange(-0.9, 0.9, 0.05)):
        x, y = along * np.cos(yaw) - across * np.sin(yaw), along * np.sin(yaw) + across * np.cos(yaw)
        cells[(int((x + 4) / 0.4), int((y + 4) / 0.4), 2)] = CAR
    (thing,) = find_objects(snapshot(cells, shape=(20, 20, 8)))
    assert thing.yaw == pytest.approx(yaw, abs=0.25)
    assert 4.2 < thing.size[0] < 5.6 and 1.6 < thing.size[1] < 3.0


@pytest.mark.parametrize("name", ["semantickitti", "occ3d_nuscenes", "sscbench_kitti360"])
def test_every_class_has_at_most_one_role(name):
    classes = taxonomy.load(name)
    moves, flat = lookup(classes, dynamic(classes)), lookup(classes, ground(classes))
    assert not (moves & flat).any() and moves.sum() >= 6 and flat.sum() >= 4
    assert not moves[classes.free] and not flat[classes.free]


def test_a_list_of_ones_own_says_what_its_classes_are():
    """Names that no shipped list has: ground to drive on, a vehicle and a person."""
    names = ("nothing", "lawn", "mower", "gardener", "shed")
    config = taxonomy.TaxonomyConfig(name="garden", classes=dict.fromkeys(names, (1, 2, 3)), free="nothing", voxels={1: 1})
    labels = {(x, y, 0): 1 for x in range(8) for y in range(8)} | {(1, 1, 1): 2, (5, 5, 1): 3, (7, 1, 1): 4}
    for roles, states, things in (
        ({}, {UNKNOWN}, []),
        ({"ground": ("lawn",), "vehicles": ("mower",), "people": ("gardener",)}, {DRIVABLE, OBSTACLE}, [2, 3]),
    ):
        own = taxonomy.load(config.model_copy(update=roles))
        shot = replace(snapshot(labels, shape=(8, 8, 8)), taxonomy=own)
        (layer,) = project_bands(shot, [HeightBand()])
        assert set(layer.reshape(-1).tolist()) == states
        assert [thing.label for thing in find_objects(shot, min_cells=1)] == things
        moves = lookup(own, dynamic(own))
        assert moves[[2, 3]].all() == bool(things) and not moves[[0, 1, 4]].any()


def test_an_empty_band_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        HeightBand(1.0, 1.0)
