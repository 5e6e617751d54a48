# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Shapes, classes and streets: plausible sizes, every class of both taxonomies present."""

from __future__ import annotations

import numpy as np
import pytest
from occle_train.streets.scenery.layout import Street
from occle_train.streets.scenery.traffic import traffic
from occle_train.streets.scenery.world import CLEAR, World
from occle_train.streets.shapes import buildings, furniture, people, vegetation, vehicles
from occle_train.streets.shapes.classes import CLASSES, KITTI_CLASS, OCC3D_CLASS

# Smallest and largest length, width and height, metres, of real things of the kind.
SIZES = {
    vehicles.car: ((3.4, 5.4), (1.5, 2.1), (1.3, 2.2)),
    vehicles.truck: ((5.5, 11.0), (2.0, 2.7), (2.2, 4.1)),
    vehicles.bus: ((8.0, 13.0), (2.3, 2.7), (2.8, 3.5)),
    vehicles.trailer: ((2.0, 14.5), (1.3, 2.7), (0.8, 4.1)),
    vehicles.construction_vehicle: ((3.5, 7.5), (2.0, 3.2), (2.5, 5.0)),
    vehicles.other_vehicle: ((2.0, 4.5), (1.2, 2.3), (1.5, 3.0)),
    people.person: ((0.2, 1.2), (0.35, 0.9), (1.0, 2.1)),
    people.bicycle: ((1.4, 2.0), (0.3, 0.8), (0.8, 1.2)),
    people.motorcycle: ((1.4, 2.4), (0.5, 0.9), (0.9, 1.3)),
    people.bicyclist: ((1.4, 2.0), (0.3, 0.9), (1.4, 2.0)),
    people.motorcyclist: ((1.4, 2.4), (0.5, 0.9), (1.2, 1.9)),
    furniture.cone: ((0.3, 0.6), (0.3, 0.6), (0.5, 1.1)),
}


@pytest.mark.parametrize("make", SIZES, ids=lambda f: f.__name__)
def test_objects_have_the_size_of_their_kind_and_stand_on_the_ground(make):
    for seed in range(8):
        mesh = make(np.random.default_rng(seed))
        low, high = mesh.tri.reshape(-1, 3).min(0), mesh.tri.reshape(-1, 3).max(0)
        for extent, (smallest, largest) in zip(high - low, SIZES[make]):
            assert smallest <= extent <= largest, (make.__name__, seed, high - low)
        assert abs(low[2]) < 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: vegetation.tree(rng),
        lambda rng: vegetation.hedge(rng, 6, 1.5, 0.8),
        lambda rng: vegetation.bush(rng, 1.0),
        lambda rng: buildings.house(rng, 12, 10, 2, False),
        lambda rng: buildings.fence(rng, 8),
        furniture.sign,
        furniture.lamp,
        furniture.traffic_light,
        furniture.clutter,
        furniture.pushable,
    ],
)
def test_shapes_are_finite_and_have_no_degenerate_bulk(make):
    mesh = make(np.random.default_rng(3))
    edges = mesh.tri[:, 1:] - mesh.tri[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    assert np.isfinite(mesh.tri).all() and (area > 1e-8).mean() > 0.95
    assert mesh.rgb.min() >= 0 and mesh.rgb.max() <= 1


def test_tree_crowns_let_rays_pass():
    """The leaves of a crown cover less than what a solid crown would, seen from the side."""
    mesh = vegetation.tree(np.random.default_rng(1))
    crown = mesh.tri[mesh.cls == [c.name for c in CLASSES].index("vegetation")]
    at = np.floor(crown.mean(1)[:, 1:] / 0.12).astype(int)
    low, high = at.min(0), at.max(0)
    filled = len(np.unique(at, axis=0)) / np.prod(high - low + 1)
    assert 0.1 < filled < 0.9


def test_every_class_of_both_taxonomies_is_the_class_of_something():
    assert set(range(1, 20)) <= set(KITTI_CLASS.tolist())
    assert set(OCC3D_CLASS.tolist()) - {255} == set(range(17))


@pytest.fixture(scope="module")
def places():
    made = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        street = Street(rng, -60, 120)
        lane = -(street.median / 2 + street.lane / 2)
        world = World(rng, street, (-40, 60), lane)
        times = np.arange(20) * 0.1
        ego = np.stack([times * 8, np.full(20, lane)], 1)
        made.append((street, world, lane, traffic(rng, street, ego, times, np.array(world.obstacles), 1), ego, times))
    return made


def test_three_streets_show_every_class(places):
    seen = set()
    for _, world, _, movers, _, _ in places:
        seen |= set(np.unique(world.mesh.cls).tolist())
        for mover in movers:
            seen |= set(np.unique(mover.mesh.cls).tolist())
    assert {CLASSES[i].name for i in seen} == {c.name for c in CLASSES if c.kitti}


def test_nothing_stands_in_the_way_of_the_ego_vehicle(places):
    for _, world, lane, _, _, _ in places:
        for _, _, d0, d1 in world.obstacles:
            assert d1 <= lane - CLEAR or d0 >= lane + CLEAR


def test_movers_keep_clear_of_the_ego_vehicle_and_of_what_stands(places):
    for _, world, _, movers, ego, times in places:
        assert movers
        for mover in movers:
            track = mover.track(times)
            apart = np.abs(track - ego)
            assert not ((apart[:, 0] < 3) & (apart[:, 1] < 1.5)).any()
            for s0, s1, d0, d1 in world.obstacles:
                assert not ((track[:, 0] > s0) & (track[:, 0] < s1) & (track[:, 1] > d0) & (track[:, 1] < d1)).any()


def test_things_stand_on_the_ground(places):
    street, world, _, _, _, _ = places[0]
    s = np.array([-20.0, 0.0, 30.0])
    assert np.allclose(street.ground(s, 0.0) - street.base(s, 0.0), 0.14 if street.median else 0.0)
    for box in world.boxes[:40]:
        low = box.centre[2] - box.size[2] / 2
        nearest = world.mesh.tri.reshape(-1, 3)
        ground = nearest[(np.abs(nearest[:, :2] - box.centre[:2]) < 1.5).all(1), 2]
        assert ground.min() - 0.5 < low < ground.max() + 0.5
