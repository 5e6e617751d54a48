# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Augmentations of OccLE's teacher and student (Fang et al., Table 1)."""

import numpy as np
import pytest
import torch
from occle_rig import frame
from occle_train.occle.augment import (
    STUDENT,
    TEACHER,
    OccleAugment,
    augment_frame,
    augment_image,
    drop_points,
    max_points,
    student_augment,
)
from occle_train.occle.objectives import (
    Weights,
)

CLASSES = 5
WEIGHTS = Weights(torch.rand(CLASSES) + 0.5, torch.rand(CLASSES) + 0.5, torch.tensor([0.3, 0.7]), free=0)


def test_the_table_of_augmentations():
    """Table 1: signs grow from teacher to student; blur, weather and cutout are the student's alone."""
    for name in ("brightness_jitter", "hsv_jitter", "point_dropout_prob", "max_point_dropout"):
        assert 0 < getattr(TEACHER, name) < getattr(STUDENT, name)
    assert STUDENT.min_point_sampling < TEACHER.min_point_sampling < 1
    for name in ("max_motion_blur", "weather_prob", "max_cutout"):
        assert getattr(TEACHER, name) == 0 < getattr(STUDENT, name)
    weak = student_augment(middle=False, strong=False)
    assert weak.brightness_jitter == STUDENT.brightness_jitter and weak.max_motion_blur == weak.weather_prob == weak.max_cutout == 0
    assert (
        student_augment(strong=False).weather_prob > 0 == student_augment(strong=False).max_cutout and student_augment() == STUDENT
    )


def test_no_augmentation_changes_nothing_but_the_points_order():
    before = frame()
    after = augment_frame(before, OccleAugment(), np.random.default_rng(0))
    assert (after.images[0] == before.images[0]).all()
    assert sorted(map(tuple, after.points.tolist())) == sorted(map(tuple, before.points.tolist()))
    assert max_points(35, OccleAugment(), np.random.default_rng(0)) == 35


@pytest.mark.parametrize("field", ["brightness_jitter", "hsv_jitter", "max_motion_blur", "weather_prob", "max_cutout"])
def test_every_image_augmentation_works_alone(field):
    image = np.random.default_rng(0).integers(60, 200, (40, 60, 3), dtype=np.uint8)
    image[:, 30:] //= 2
    config = OccleAugment(**{field: 9 if field == "max_motion_blur" else 1.0 if field == "weather_prob" else 0.4})
    changed = [augment_image(image, config, np.random.default_rng(seed)) for seed in range(12)]
    assert all(out.shape == image.shape and out.dtype == np.uint8 for out in changed)
    differs = [(out != image).any(2).mean() for out in changed]
    assert max(differs) > 0.02
    if field == "max_cutout":
        assert max(differs) <= 0.4**2 * 1.2 and all((out[(out != image).any(2)] == 0).all() for out in changed)
    if field == "brightness_jitter":
        means = [out.mean() / image.mean() for out in changed]
        assert min(means) < 0.95 and max(means) > 1.05
    if field == "motion_blur":
        assert (
            min(np.abs(np.diff(out.astype(int), axis=1)).mean() for out in changed)
            < 0.5 * np.abs(np.diff(image.astype(int), axis=1)).mean()
        )
    assert (augment_image(image, config, np.random.default_rng(3)) == changed[3]).all()


@pytest.mark.parametrize("config", [TEACHER, STUDENT])
def test_all_image_augmentations_work_together(config):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for seed in range(8):
        out = augment_image(image, config, np.random.default_rng(seed))
        assert out.shape == image.shape and out.dtype == np.uint8 and (out != image).any()


def test_dropped_points_are_as_many_as_allowed():
    points = frame().points
    config = OccleAugment(point_dropout_prob=0.5, max_point_dropout=0.4)
    left = [len(drop_points(points, config, np.random.default_rng(seed))) / len(points) for seed in range(60)]
    assert min(left) >= 0.6 and 0.3 < np.mean([share == 1 for share in left]) < 0.7
    assert 18 <= min(max_points(35, STUDENT, np.random.default_rng(seed)) for seed in range(50)) < 22
