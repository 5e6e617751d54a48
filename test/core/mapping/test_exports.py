# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Exported files, read by others' readers or by the formats' published rules."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import yaml
from map_frames import BUILDING, CAR, CLASSES, ROAD

from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapConfig, MapSnapshot
from occle_core.mapping.export.nav2 import export_nav2
from occle_core.mapping.export.octomap import export_octomap
from occle_core.mapping.export.ply import export_ply
from occle_core.mapping.layers import DRIVABLE, OBSTACLE, HeightBand


def random_map(shape=(24, 20, 12), origin=(-3.2, 4.0, -1.6), seed=0):
    rng = np.random.default_rng(seed)
    log_odds = rng.choice(np.array([-16, 0, 40], np.int8), shape, p=[0.5, 0.3, 0.2])
    log_odds[8:16, 4:12, 4:12] = -16  # room for merged leaves
    labels = np.where(log_odds > 0, rng.integers(1, 20, shape), 255).astype(np.uint8)
    config = MapConfig(size=tuple(n * 0.4 for n in shape))
    return MapSnapshot(log_odds, labels, np.zeros(shape, np.uint8), VoxelGrid(origin, shape, 0.4), CLASSES, config, frame_id="odom")


@pytest.mark.parametrize("origin", [None, (320_000.0, 5_820_000.0, 40.0)], ids=["odom", "utm"])
def test_ply_is_read_by_its_own_header(tmp_path, origin):
    shot = random_map()
    shot = shot if origin is None else replace(shot, grid=replace(shot.grid, origin=origin))
    shot.labels[np.argwhere(shot.occupied)[0][0]] = 255
    count = export_ply(tmp_path / "a.ply", shot)
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"] and f"element vertex {count}" in lines
    types = {"float": "<f4", "double": "<f8", "uchar": "u1"}
    fields = [(line.split()[2], types[line.split()[1]]) for line in lines if line.startswith("property")]
    rows = np.frombuffer(body, np.dtype(fields))
    assert len(rows) == count == shot.occupied.sum()
    cells = np.argwhere(shot.occupied)
    centers = np.array(shot.grid.origin) + (cells + 0.5) * 0.4
    np.testing.assert_allclose(np.stack([rows[a] for a in "xyz"], 1), centers, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(rows["label"], shot.labels[shot.occupied])
    named = rows["label"] != 255
    np.testing.assert_array_equal(rows["red"][named], CLASSES.colors[rows["label"][named], 0])
    np.testing.assert_allclose(rows["probability"], 1 / (1 + np.exp(-2.5)), rtol=1e-6)


def read_bt(path):
    """An independent reader, node by node as octomap's readBinaryNode: {(depth, x, y, z) of a leaf: occupied}, node count."""
    head, _, body = path.read_bytes().partition(b"\ndata\n")
    fields = dict(line.split(" ", 1) for line in head.decode().splitlines() if not line.startswith("#"))
    assert head.startswith(b"# Octomap OcTree binary file\n") and fields["id"] == "OcTree"
    leaves, at, nodes = {}, 0, 0

    def node(depth, x, y, z):
        nonlocal at, nodes
        nodes += 1
        word = body[at] | body[at + 1] << 8
        at += 2
        inner = []
        for child in range(8):
            place = (depth + 1, 2 * x + (child & 1), 2 * y + (child >> 1 & 1), 2 * z + (child >> 2 & 1))
            state = word >> 2 * child & 3
            if state == 3:
                inner.append(place)
            elif state:
                leaves[place] = state == 2
                nodes += 1
        for place in inner:
            node(*place)

    if body:
        node(0, 0, 0, 0)
    assert at == len(body)
    return leaves, nodes, int(fields["size"]), float(fields["res"])


@pytest.mark.parametrize("seed", range(3))
def test_octomap_says_of_every_cell_what_the_map_says(tmp_path, seed):
    shot = random_map(seed=seed)
    export_octomap(tmp_path / "a.bt", shot)
    leaves, nodes, size, resolution = read_bt(tmp_path / "a.bt")
    assert (nodes, resolution) == (size, 0.4)
    assert any(place[0] < 16 for place in leaves)
    said = {}
    for (depth, x, y, z), occupied in leaves.items():
        edge = 1 << (16 - depth)
        for i, j, k in product(range(edge), repeat=3):
            said[(x * edge + i, y * edge + j, z * edge + k)] = occupied
    low = np.round(np.array(shot.grid.origin) / 0.4).astype(int) + 32768
    known = {tuple(c + low): bool(shot.occupied[tuple(c)]) for c in np.argwhere(shot.occupied | shot.free)}
    assert said == known


def test_octomap_is_read_by_octomap(tmp_path):
    pyoctomap = pytest.importorskip("pyoctomap", reason="pyoctomap is not installed")
    shot = random_map()
    nodes = export_octomap(tmp_path / "a.bt", shot)
    tree = pyoctomap.OcTree(0.1)
    assert tree.readBinary(str(tmp_path / "a.bt"))
    assert tree.size() == nodes and tree.getResolution() == pytest.approx(0.4)
    for cell in np.argwhere(np.ones(shot.grid.shape, bool))[::7]:
        node = tree.search(np.array(shot.grid.origin) + (cell + 0.5) * 0.4)
        known = shot.occupied[tuple(cell)] or shot.free[tuple(cell)]
        assert (node is not None) == known
        if known:
            assert tree.isNodeOccupied(node) == shot.occupied[tuple(cell)]


def test_an_empty_map_is_an_empty_octomap_and_a_far_one_is_refused(tmp_path):
    shot = random_map()
    shot.log_odds.fill(0)
    assert export_octomap(tmp_path / "a.bt", shot) == 0
    with pytest.raises(ValueError, match="keys end there"):
        export_octomap(tmp_path / "b.bt", random_map(origin=(20_000.0, 0.0, 0.0)))


def map_server(path):
    """{(x, y) centre of a pixel: value} of the trinary mode as nav2's map_io.cpp computes it: 100, 0 or -1."""
    info = yaml.safe_load(path.read_text())
    raw = (path.parent / info["image"]).read_bytes()
    magic, size, top, pixels = raw.split(b"\n", 3)
    width, height = map(int, size.split())
    assert (magic, top, len(pixels)) == (b"P5", b"255", width * height) and info["mode"] == "trinary"
    cells = {}
    for row, column in product(range(height), range(width)):
        shade = pixels[row * width + column] / 255
        occupied = shade if info["negate"] else 1 - shade
        value = 100 if occupied > info["occupied_thresh"] else 0 if occupied < info["free_thresh"] else -1
        x = info["origin"][0] + (column + 0.5) * info["resolution"]
        y = info["origin"][1] + (height - row - 0.5) * info["resolution"]
        cells[round(x, 3), round(y, 3)] = value
    return cells


def test_nav2_sees_obstacles_drivable_and_unknown_where_they_are(tmp_path):
    shape, origin = (12, 9, 8), (10.4, -6.0, -1.6)
    labels, log_odds = np.full(shape, 255, np.uint8), np.full(shape, -16, np.int8)
    for i, j in product(range(8), range(9)):
        labels[i, j, 1], log_odds[i, j, 1] = ROAD, 40
    for cell, label in {(2, 1, 3): CAR, (6, 8, 2): BUILDING}.items():
        labels[cell], log_odds[cell] = label, 40
    config = MapConfig(size=tuple(n * 0.4 for n in shape))
    shot = MapSnapshot(log_odds, labels, np.zeros(shape, np.uint8), VoxelGrid(origin, shape, 0.4), CLASSES, config)
    layer = export_nav2(tmp_path / "street.yaml", shot, HeightBand(0.3, 2.0))
    cells = map_server(tmp_path / "street.yaml")
    assert len(cells) == 12 * 9
    for i, j in product(range(12), range(9)):
        expected = 100 if (i, j) in ((2, 1), (6, 8)) else 0 if i < 8 else -1
        assert cells[round(10.4 + (i + 0.5) * 0.4, 3), round(-6 + (j + 0.5) * 0.4, 3)] == expected
        assert layer[i, j] == {100: OBSTACLE, 0: DRIVABLE, -1: 255}[expected]
    before = (tmp_path / "street.pgm").read_bytes()
    with pytest.raises(ValueError, match=r"the name of the YAML file, .*street\.yaml"):
        export_nav2(tmp_path / "street.pgm", shot)
    assert (tmp_path / "street.pgm").read_bytes() == before
