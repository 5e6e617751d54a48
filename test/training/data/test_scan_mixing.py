# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scan mixing and beam randomisation: point by point and cell by cell, and inside a training batch."""

import numpy as np
from occle_train.data.augment import AugmentConfig
from occle_train.data.samples import Samples
from occle_train.data.scan_mixing import BAND, mix_scans, thin_beams
from occle_train.loop.sampling import SamplingPlan
from occle_train.minkocc.batches import TrainingSet
from occle_train.process_group import ProcessGroup
from rooms import CAMERA, GRID, NETWORK, Rooms

from occle_core.frame import Frame

MIRROR = np.diag([1, -1, 1, 1.0])


def frame(seed, T_grid_lidar):
    rng = np.random.default_rng(seed)
    points = np.c_[rng.uniform(-8, 8, (400, 3)), np.full(400, seed)].astype(np.float32)
    image = np.zeros((32, 64, 3), np.uint8)
    return Frame(0, points, [image], [CAMERA], T_grid_lidar)


def in_grid(one):
    return one.points[:, :3] @ one.T_grid_lidar[:3, :3].T + one.T_grid_lidar[:3, 3]


def test_a_point_of_the_mixed_scan_is_where_it_was_and_of_the_frame_that_its_cell_belongs_to():
    moved = np.eye(4)
    moved[:3, 3] = 2.0, 0.5, 0.3
    one, other = frame(1, moved), frame(2, MIRROR)
    mixed, theirs = mix_scans(one, other, GRID, np.random.default_rng(0))
    assert mixed.images == [None] and np.array_equal(mixed.T_grid_lidar, one.T_grid_lidar)
    assert 0.1 < theirs.mean() < 0.9 and (theirs == theirs[:, :, :1]).all()
    found = in_grid(mixed)
    for source in (one, other):
        here = mixed.points[:, 3] == source.points[0, 3]
        places = in_grid(source)
        assert here.sum() > 50
        assert all(np.abs(places - point).max(axis=1).min() < 1e-4 for point in found[here])
    # Every point of either frame is in the mixture exactly where its side of the sector is.
    angle = np.arctan2(*(found[:, :2] - moved[:2, 3]).T[::-1])
    foreign = mixed.points[:, 3] == 2
    columns = np.argwhere(np.ones(GRID.shape[:2]))
    centers = GRID.centers(np.c_[columns, np.zeros(len(columns), int)])[:, :2] - moved[:2, 3]
    for bearing, is_foreign in zip(angle[::7], foreign[::7]):
        off = np.abs((np.arctan2(centers[:, 1], centers[:, 0]) - bearing + np.pi) % (2 * np.pi) - np.pi)
        near = columns[off < 0.02]
        if len(near) and len(set(theirs[near[:, 0], near[:, 1], 0])) == 1:
            assert theirs[near[0, 0], near[0, 1], 0] == is_foreign
    together = sum((mixed.points[:, 3] == seed).sum() for seed in (1, 2))
    assert together == len(mixed.points)


def test_thinned_beams_are_whole_bands():
    rng = np.random.default_rng(0)
    elevation = (np.arange(60) - 40.5) * BAND  # one beam in the middle of each band
    azimuth = rng.uniform(-np.pi, np.pi, (60, 30))
    points = np.stack([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)[:, None] + 0 * azimuth, 0 * azimuth], -1)
    scan = (10 * points.reshape(-1, 4)).astype(np.float32)
    seen = set()
    for seed in range(30):
        kept = scan[thin_beams(scan, 4, np.random.default_rng(seed))]
        beams = np.unique(np.round(np.degrees(np.arctan2(kept[:, 2], np.hypot(kept[:, 0], kept[:, 1]))), 3))
        assert len(kept) == 30 * len(beams)
        steps = np.unique(np.round(np.diff(beams) / np.degrees(BAND)))
        assert len(steps) == 1
        seen.add(int(steps[0]))
    assert seen == {2, 3, 4}


def batch(**strengths):
    still = dict.fromkeys(("flip_prob", "rot90_prob", "camera_dropout_prob", "max_point_dropout", "intensity_dropout_prob"), 0)
    plan = SamplingPlan(0, 10, 2, 10, 0, AugmentConfig(**still, **strengths), 0)
    samples = Samples([Rooms("a"), Rooms("b")], GRID, NETWORK)
    return TrainingSet(samples, GRID, NETWORK, plan, 0, ProcessGroup())[0, [0, 4]]


def test_a_batch_of_mixed_frames_has_the_targets_of_both():
    plain, mixed = batch(), batch(scan_mix_prob=1)
    truths = {name: [Rooms(name).world(i) for i in range(3)] for name in "ab"}
    assert np.array_equal(plain.labels[0], truths["a"][0]) and np.array_equal(plain.labels[1], truths["b"][1])
    for labels, own in zip(mixed.labels.numpy(), (truths["a"][0], truths["b"][1])):
        partners = [truth for scene in truths.values() for truth in scene]
        assert any(np.where(labels == own, True, labels == truth).all() for truth in partners)
    assert any((mixed.labels[n] != plain.labels[n]).any() for n in range(2))
    assert (mixed.occupancy == (mixed.labels != 0)).all() and (mixed.lifted == 255).all()


def test_the_switches_are_off_and_change_nothing_then():
    config = AugmentConfig()
    assert config.scan_mix_prob == config.beam_thinning_prob == 0
    assert len(batch(beam_thinning_prob=1).inputs.points) < len(batch().inputs.points)
