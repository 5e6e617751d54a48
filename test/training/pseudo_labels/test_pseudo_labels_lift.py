# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Classes of voxels out of labelled pixels: which points a camera sees, what they are called, and who wins a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_scans import Box, Scans, TrackedScans, shift
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing
from occle_train.pseudo_labels.lift import BEHIND, in_sight, lifted_labels, point_labels, reach_of
from rooms import AXES, CLASSES

from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid

WIDTH, HEIGHT = 24, 16
AHEAD = Camera(np.array([[12.0, 0, 11.5], [0, 12, 7.5], [0, 0, 1]]), AXES, WIDTH, HEIGHT)
GRID = VoxelGrid((0, -2, -1), (10, 8, 4), 0.5)
CAR, ROAD, POLE = 1, 9, 18


def test_points_in_sight_are_those_of_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    points = rng.uniform((-2, -6, -4), (9, 6, 4), (300, 3))
    seen, u, v = in_sight(points, AHEAD)
    reach = reach_of(AHEAD)
    uv, depth, visible = AHEAD.project(points)
    pixels = {i: tuple(int(np.floor(x + 0.5)) for x in uv[i]) for i in np.flatnonzero(visible)}
    expected = []
    for i, (column, row) in pixels.items():
        beside = [depth[j] for j, at in pixels.items() if abs(at[0] - column) <= reach and abs(at[1] - row) <= reach]
        # Depths within rounding of the border may fall either way.
        assert abs(depth[i] - BEHIND * min(beside)) > 1e-4
        if depth[i] < BEHIND * min(beside):
            expected.append((i, column, row))
    assert list(zip(seen.tolist(), u.tolist(), v.tolist())) == expected
    assert 20 < len(expected) < len(pixels)


class Photographed:
    """One scan, seen by two cameras: one ahead, the other a metre to its left."""

    kind, name, taxonomy, camera_names = "test", "x", CLASSES, ("ahead", "left")

    def __init__(self, points, cameras):
        self.scan = np.column_stack([points, np.zeros(len(points))]).astype(np.float32)
        self.cameras = cameras

    def __len__(self):
        return 1

    def image_file(self, i, camera):
        return Path("0.png")

    def frame(self, i):
        return Frame(0, self.scan, [None, None], self.cameras, np.eye(4))


def folder(root, data, content):
    """Label images of the cameras in `content`: (class, confidence), or an image of classes and a confidence."""

    def labeller(dataset, i, camera):
        label, sure = content[camera]
        return np.broadcast_to(np.uint8(label), (HEIGHT, WIDTH)).copy(), np.full((HEIGHT, WIDTH), sure, np.uint8)

    write_missing(root, [data], labeller, CLASSES, {"by": "hand"})
    return LabelFolder(root, CLASSES)


def test_hiders_are_looked_for_in_the_same_cone_whatever_the_size_of_the_labels():
    assert [reach_of(AHEAD.resized(width, width)) for width in (24, 176, 1600)] == [1, 2, 20]


def test_points_take_the_label_of_the_most_confident_pixel_that_shows_them(tmp_path):
    left = Camera(AHEAD.K, AXES @ shift(0, -1, 0), WIDTH, HEIGHT)
    # In both pictures; hidden from the camera ahead alone by the third; hiding it; behind both; left of what is ahead.
    points = [(4, 0.5, 1.5), (8, -0.8, 0), (2, -0.2, 0), (-3, 0, 0), (4, 4.3, 0)]
    data = Photographed(points, [AHEAD, left])
    labels, confidence = point_labels(data, 0, folder(tmp_path / "a", data, {"ahead": (CAR, 200), "left": (ROAD, 100)}))
    assert labels.tolist() == [CAR, ROAD, CAR, 255, ROAD]
    np.testing.assert_allclose(confidence, np.array([200, 100, 200, 0, 100]) / 255, rtol=1e-6)
    labels, _ = point_labels(data, 0, folder(tmp_path / "b", data, {"ahead": (CAR, 100), "left": (ROAD, 200)}))
    assert labels.tolist() == [ROAD, ROAD, ROAD, 255, ROAD]
    (tmp_path / "b" / "x" / "left" / "0.png").unlink()
    labels, _ = point_labels(data, 0, LabelFolder(tmp_path / "b", CLASSES))
    assert labels.tolist() == [CAR, 255, CAR, 255, 255]


def test_label_images_may_be_smaller_than_the_camera_s(tmp_path):
    label = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    label[:, : WIDTH // 2] = CAR
    large = AHEAD.resized(4 * WIDTH, 4 * HEIGHT)
    data = Photographed([(4, 0.1, 0), (4, -0.1, 1)], [large, large])
    found, _ = point_labels(data, 0, folder(tmp_path, data, {"ahead": (label, 200), "left": (label, 200)}))
    assert found.tolist() == [CAR, ROAD]


@pytest.mark.parametrize(("before", "after", "moving"), [(0, 0, "keep"), (4, 0, "keep"), (2, 1, "carry"), (1, 4, "remove")])
def test_the_class_with_most_of_the_confidence_wins_its_cell(before, after, moving):
    rng = np.random.default_rng(1)
    scans = [np.column_stack([rng.uniform((-1, -3, -1.5), (6, 3, 1.5), (1500, 3)), np.full(1500, CAR)]) for _ in range(5)]
    boxes = [[Box("mover", shift(1 + 0.5 * i, 0, 0), (1.5, 1, 1))] for i in range(5)]
    # Boxes are 0.1 m larger on each side than drawn (`inside_box`).
    movers = [np.abs(scan[:, :3] - (1 + 0.5 * i, 0, 0)) <= (0.85, 0.6, 0.6) for i, scan in enumerate(scans)]
    data = TrackedScans(scans, boxes, poses=[shift(0, 0, 0)] * 5, moving=[inside.all(1) for inside in movers])
    named = [(rng.choice(np.array([CAR, ROAD, POLE, 255], np.uint8), 1500), rng.random(1500).astype(np.float32)) for _ in scans]
    votes: dict[tuple[int, ...], dict[int, float]] = {}
    for i in range(max(0, 2 - before), min(4, 2 + after) + 1):
        for row, (label, sure) in enumerate(zip(*named[i])):
            point = scans[i][row, :3].copy()
            if movers[i][row].all() and i != 2:
                if moving == "remove":
                    continue
                point[0] += 0.5 * (2 - i) if moving == "carry" else 0
            cell = tuple(np.floor((point - GRID.origin) / GRID.resolution).astype(int).tolist())
            if label != 255 and all(0 <= c < n for c, n in zip(cell, GRID.shape)):
                own = votes.setdefault(cell, {})
                own[int(label)] = own.get(int(label), 0.0) + float(sure)
    expected = np.full(GRID.shape, 255, np.uint8)
    for cell, own in votes.items():
        label = max(own, key=lambda number: own[number])
        if own[label] > 0.5 * sum(own.values()):
            expected[cell] = label
    found = lifted_labels(data, 2, GRID, lambda i: named[i], before, after, moving)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found).tolist()) == {CAR, ROAD, POLE, 255}
    assert len(votes) > (expected != 255).sum()  # some cells have votes and no winner


def test_the_vehicle_s_own_points_and_unlabelled_ones_do_not_vote():
    data = Scans([[(0.7, 0.2, 0.2, CAR), (3.2, 0.2, 0.2, CAR)]])
    labels = np.array([CAR, ROAD], np.uint8), np.ones(2, np.float32)
    found = lifted_labels(data, 0, GRID, lambda i: labels, 0, moving="keep", min_range=1.0)
    assert np.argwhere(found != 255).tolist() == [[6, 4, 2]] and found[6, 4, 2] == ROAD
    nothing = np.full(2, 255, np.uint8), np.ones(2, np.float32)
    assert (lifted_labels(data, 0, GRID, lambda i: nothing, 0, moving="keep") == 255).all()
