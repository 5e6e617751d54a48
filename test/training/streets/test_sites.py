# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Halls and yards: nothing reaches into another thing, the robot's way is free, all classes are there, truth agrees with rays."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from occle_train.cli import app
from occle_train.streets import simulate
from occle_train.streets.drive import Drive
from occle_train.streets.moving_scan import lidar_trajectory
from occle_train.streets.scenes.scene import Scene
from occle_train.streets.sensors.caster import RayCaster
from occle_train.streets.shapes import machinery, storage
from occle_train.streets.shapes.classes import ID, WAREHOUSE_CLASS
from occle_train.streets.shapes.mesh import Mesh, box, join, split_long, surface
from occle_train.streets.sites.hall import hall
from occle_train.streets.sites.movers import ROBOT, walkers
from occle_train.streets.sites.route import SLOWER, Route
from occle_train.streets.sites.site import CLEAR, OVERHEAD, Site
from occle_train.streets.sites.yard import yard
from occle_train.streets.writing.sequence import class_table
from typer.testing import CliRunner

from occle_core.datasets import open_dataset
from occle_core.mapping.classes import dynamic, ground
from occle_core.rig import read_rig
from occle_core.taxonomy import TaxonomyConfig, load

RIG = Path(__file__).resolve().parents[3] / "examples" / "indoor_rig" / "rig.yaml"
CLASSES = load("warehouse")
TIMES = np.arange(60) * 0.5


@pytest.fixture(scope="module", params=[hall, yard], ids=["hall", "yard"])
def sites(request) -> list[Site]:
    return [request.param(np.random.default_rng(seed)) for seed in range(2)]


def things(site: Site) -> list[np.ndarray]:
    """Corners (N, 3) below OVERHEAD of everything that stands."""
    found = (part.tri[part.tri[:, :, 2].min(1) < OVERHEAD].reshape(-1, 3) for part in site.parts if part.inst.any())
    return list(found)


def test_nothing_reaches_into_another_thing_or_through_a_wall(sites):
    for site in sites:
        boxes = [(corners[:, :2].min(0), corners[:, :2].max(0)) for corners in things(site)]
        assert len(boxes) > 20
        x0, x1, y0, y1 = site.inside
        for low, high in boxes:
            assert low[0] >= x0 and low[1] >= y0 and high[0] <= x1 and high[1] <= y1
        for (low, high), (other_low, other_high) in combinations(boxes, 2):
            assert (low >= other_high).any() or (other_low >= high).any()


def test_the_robots_way_is_free(sites):
    """By rays: from each point of the route to either side, at three heights, nothing stands within CLEAR."""
    for site in sites:
        mesh = join(site.parts)
        caster = RayCaster(mesh)
        aside = np.stack([-np.sin(site.route.headings), np.cos(site.route.headings), np.zeros(len(site.route.headings))], 1)
        for z in (0.1, 0.8, 1.5):
            origins = np.column_stack([site.route.points, np.full(len(aside), z)]).astype(np.float32)
            for side in (aside, -aside):
                _, distance = caster.cast(origins, side.astype(np.float32))
                assert distance.min() > CLEAR - 0.02


def test_all_classes_are_there(sites, request):
    rng = np.random.default_rng(0)
    here = {CLASSES.names[i] for site in sites for part in site.parts for i in WAREHOUSE_CLASS[np.unique(part.cls)]}
    moving = walkers(rng, sites[0], np.full((len(TIMES), 2), 1e3), TIMES, 2, 4)
    here |= {CLASSES.names[i] for walker in moving for i in WAREHOUSE_CLASS[np.unique(walker.mesh.cls)]}
    outdoors = "yard" in request.node.name
    absent = {"free", "ceiling", "rack"} if outdoors else {"free", "vehicle", "vegetation"}
    assert here == set(CLASSES.names) - absent


def test_movers_touch_nothing(sites):
    for seed, site in enumerate(sites):
        robot, _ = site.route.at(site.route.driven(0.0, 1.5, TIMES))
        found = walkers(np.random.default_rng(seed), site, robot, TIMES, 2, 6)
        assert len(found) >= 3
        low, high = (np.array([getattr(corners[:, :2], end)(0) for corners in things(site)]) for end in ("min", "max"))
        for number in range(0, len(TIMES), 6):
            time = float(TIMES[number])
            shapes = [walker.mesh.moved(walker.pose(time)).tri.reshape(-1, 3)[::20, :2] for walker in found]
            for shape in shapes:
                assert np.linalg.norm(shape - robot[number], axis=1).min() > ROBOT - 0.01
                assert not ((shape[:, None] > low) & (shape[:, None] < high)).all(2).any()
            for one, other in combinations(shapes, 2):
                assert np.linalg.norm(one[:, None] - other, axis=2).min() > 0.01


def test_a_route_is_a_rounded_polygon():
    route = Route([(0, 0), (10, 0), (10, 6), (0, 6)], 1.0)
    assert np.isclose(route.length, 32 - 8 + 2 * np.pi, atol=0.01)
    xy, heading = route.at(np.linspace(0, 2 * route.length, 500))
    assert np.allclose(route.at(route.length + 1.0)[0], route.at(1.0)[0])
    moved = np.diff(route.at(np.array([3.0, 3.01]))[0], axis=0)[0]
    assert np.allclose(moved, 0.01 * np.array([np.cos(route.at(3.0)[1]), np.sin(route.at(3.0)[1])]), atol=1e-4)
    assert (np.cos(np.diff(heading)) > 0.98).all() and xy.min() > -1e-9
    steps = np.diff(route.driven(0.0, 2.0, np.arange(0, 20, 0.1)))
    assert np.allclose(np.unique(steps.round(9)), [0.2 * SLOWER, 0.2])


def test_split_triangles_are_short_and_cover_the_same():
    mesh = split_long(surface(box(0, 11, 0, 5, 0, 0.1), "wall", (0.5, 0.5, 0.5)), 2.0)
    edges = np.linalg.norm(np.roll(mesh.tri, -1, 1) - mesh.tri, axis=2)

    def area(of: Mesh) -> float:
        return float(np.linalg.norm(np.cross(of.tri[:, 1] - of.tri[:, 0], of.tri[:, 2] - of.tri[:, 0]), axis=1).sum() / 2)

    assert edges.max() <= 2.0 and np.isclose(area(mesh), 2 * (55 + 1.1 + 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (machinery.forklift, ((3.0, 3.4), (1.0, 1.3), (2.0, 2.2))),
        (machinery.bench, ((1.1, 2.3), (0.6, 0.8), (1.4, 1.6))),
        (storage.container, ((6.0, 6.1), (2.4, 2.5), (2.5, 2.65))),
        (lambda rng: storage.rack(rng, 4, 3, 1.6, 0.8), ((10.8, 11.0), (1.1, 1.3), (5.3, 6.5))),
        (lambda rng: storage.pallet_load(rng, 1.2), ((1.15, 1.25), (0.75, 0.85), (0.14, 1.3))),
    ],
)
def test_shapes_have_the_size_of_their_kind_and_stand_on_the_ground(make, size):
    for seed in range(5):
        corners = make(np.random.default_rng(seed)).tri.reshape(-1, 3)
        for extent, (least, most) in zip(np.ptp(corners, axis=0), size):
            assert least <= extent <= most
        assert abs(corners[:, 2].min()) < 0.02


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sites")
    rig = read_rig(RIG)
    assert simulate(out, rig, 2, 1, 5, 0.1, 1, classes="warehouse", scenes=("hall", "yard")) == ["00", "01"]
    return out


@pytest.mark.parametrize("name", ["00", "01"])
def test_truth_agrees_with_the_rays(data, name):
    dataset = open_dataset(data / name)
    grid = dataset.rig.grid.grid
    assert dataset.taxonomy.name == "warehouse" and len(dataset) == 1
    frame, labels, truth = dataset.frame(0), dataset.point_labels(0), dataset.truth(0, grid)
    assert (labels != 255).all() and [image.shape for image in frame.images] == [(40, 64, 3)] * 2
    base = (frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]).astype(np.float32)
    cells, inside = grid.index(base)
    there = truth[tuple(cells[inside].T)]
    # What differs: ranges have noise, and thin shelves label the cells that they share with goods.
    assert inside.sum() > 2000 and (there == labels[inside]).mean() > 0.85 and (there != CLASSES.free).mean() > 0.95
    # Along the rays that hit something upright, cells more than half a metre before the hit are free, or the floor below.
    upright = ~np.isin(labels, [CLASSES.id("floor"), CLASSES.id("ceiling")])
    span = base[upright] - frame.T_grid_lidar[:3, 3]
    for share in (0.3, 0.6):
        before = span[np.linalg.norm(span, axis=1) * (1 - share) > 0.5]
        ijk, within = grid.index((frame.T_grid_lidar[:3, 3] + share * before).astype(np.float32))
        passed = truth[tuple(ijk[within].T)]
        assert within.sum() > 500 and np.isin(passed, (CLASSES.free, CLASSES.id("floor"), 255)).mean() > 0.95


def test_the_robot_moves_on_between_frames():
    drive = Drive(read_rig(RIG), 5, 0, 3, 0.1, "hall")
    scene: Scene = drive.scene
    step = np.linalg.norm(drive.base_pose(1)[:3, 3] - drive.base_pose(0)[:3, 3])
    assert 0.04 < step < 0.21 and scene.travelled < 0.45
    path = lidar_trajectory(drive, 0, 0.1, margin=0.0, steps=2).poses @ np.linalg.inv(drive.rig.T_base_lidar)
    assert np.allclose(path[0], drive.base_pose(0)) and np.allclose(path[1], drive.base_pose(1), atol=1e-6)


def test_what_cannot_be_simulated_is_refused(tmp_path):
    rig = read_rig(RIG)
    with pytest.raises(ValueError, match="no scene is called office; there are street, hall, yard"):
        simulate(tmp_path / "a", rig, classes="warehouse", scenes=("office",))
    with pytest.raises(ValueError, match="kitti's layout holds streets only; for halls and yards give a rig file"):
        simulate(tmp_path / "a", "kitti", scenes=("hall",))
    with pytest.raises(ValueError, match=r"classes of a hall are warehouse's: class list semantickitti has no names of warehouse"):
        simulate(tmp_path / "a", rig, classes="semantickitti", scenes=("street", "hall"))
    done = CliRunner().invoke(app, ["simulate", str(tmp_path / "a"), "--rig", str(RIG), "--scenes", "shop,hall"])
    assert done.exit_code == 1 and "no scene is called shop" in done.output.replace("\n", " ")
    assert not (tmp_path / "a").exists()


def test_a_list_of_your_own_takes_the_warehouses_names():
    own = TaxonomyConfig(
        name="two", free="free", classes={"free": (0, 0, 0), "ground": (9, 9, 9), "thing": (255, 0, 0)},
        names={"warehouse": {name: "ground" if name == "floor" else "thing" for name in CLASSES.names[1:]}},
    )  # fmt: skip
    table = class_table(load(own), "yard")
    assert table[ID["floor"]] == 1 and table[ID["forklift"]] == table[ID["car"]] == 2 and table[ID["road"]] == 255


def test_a_map_knows_what_moves_and_what_is_ground():
    assert dynamic(CLASSES) == {"vehicle", "forklift", "person"} and ground(CLASSES) == {"floor"}
