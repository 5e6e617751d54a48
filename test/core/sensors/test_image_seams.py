# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Seams, where a picture that lost data is shifted from a block on: found where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_bytes import decoded, jpeg, picture

from occle_core.sensors.image_files import decode_image
from occle_core.sensors.image_seams import MIN_COLUMNS, MIN_STEP, find_seam


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_shift_from_any_block_on_is_found_where_it_begins(data):
    block = data.draw(st.sampled_from([(8, 8), (16, 8), (16, 16)]))
    columns, rows = data.draw(st.integers(MIN_COLUMNS, 60)), data.draw(st.integers(3, 12))
    image = picture(rows * block[1], columns * block[0], noise=3, seed=data.draw(st.integers(0, 99))).astype(int) // 2 + 60
    assert find_seam(image.astype(np.uint8), block) is None
    row = data.draw(st.integers(1, rows - 2))
    column = data.draw(st.integers(1, columns - 1))
    shift = np.array(data.draw(st.tuples(*[st.integers(-40, 40)] * 3)))
    if np.sqrt((shift**2).mean()) < 2 * MIN_STEP:
        shift[0] = 40
    image[row * block[1] : (row + 1) * block[1], column * block[0] :] += shift
    image[(row + 1) * block[1] :] += shift
    found = find_seam(np.clip(image, 0, 255).astype(np.uint8), block)
    if min(column, columns - column) >= columns / 50:
        assert found == (column * block[0], row * block[1])


@pytest.mark.parametrize("step", [10, 60, 200])
def test_edges_of_the_scene_on_block_borders_are_no_seam(step):
    """A table's edge, a letterbox, a box, a staircase of boxes: none is a shift of all that follows."""
    base = picture(96, 640, noise=2).astype(int) // 4 + 20
    scenes = [base.copy() for _ in range(4)]
    scenes[0][48:] += step
    scenes[1][:16], scenes[1][80:] = 0, 0
    scenes[2][32:64, 192:448] += step
    for number in range(5):
        scenes[3][16 * (number + 1) :, 128 * number : 128 * (number + 1)] += step
    for number, scene in enumerate(scenes):
        image = np.clip(scene, 0, 255).astype(np.uint8)
        for block in ((8, 8), (16, 8), (16, 16)):
            assert find_seam(image, block) is None, (number, block)
        for sampling in (420, 422, 444):
            data = jpeg(image, sampling)
            assert decoded(data) is not None and decoded(data, halved=True) is not None, (number, sampling)


def test_a_small_picture_is_not_searched_for_seams():
    """Where few blocks lie side by side, a bus in front of a street looks like one."""
    image = np.full((96, 176), 90, np.uint8)
    image[32:48, 144:] += 40
    image[48:] += 40
    assert find_seam(image, (16, 16)) is None
    assert find_seam(np.repeat(image, 4, axis=1), (16, 16)) == (576, 32)


def test_real_camera_frames_have_no_seam(real_data):
    files = sorted(real_data.glob("nuscenes/samples/CAM_*/*.jpg")) + sorted(real_data.glob("kitti_raw/**/image_02/**/*.png"))
    if not files:
        pytest.skip(f"no pictures in {real_data}")
    for file in files:
        image = decode_image(file.read_bytes())
        for quality, sampling in ((95, 444), (50, 420), (25, 422)):
            data = jpeg(image, sampling, quality=quality)
            decode_image(data)
            decode_image(data, halved=True)
