# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The draw of the labelled scenes."""

from itertools import pairwise

import numpy as np
import pytest
from occle_train.data.label_split import draw_labelled

SCENES = [f"scene-{i:04d}" for i in range(40)]


def test_the_share_is_exact_and_never_empty_by_accident():
    for fraction, expected in ((0, 0), (1e-6, 1), (0.01, 1), (0.1, 4), (0.5, 20), (1, 40)):
        drawn = draw_labelled(SCENES, fraction, 0)
        assert len(drawn) == len(set(drawn)) == expected and set(drawn) <= set(SCENES)
    assert draw_labelled(["only"], 0.1, 3) == ["only"]
    assert draw_labelled([], 0.1, 3) == []


def test_seed_and_names_decide_alone():
    shuffled = np.random.default_rng(0).permutation(SCENES).tolist()
    assert draw_labelled(shuffled, 0.25, 7) == draw_labelled(SCENES, 0.25, 7)
    assert len({tuple(draw_labelled(SCENES, 0.1, seed)) for seed in range(20)}) == 20
    # Known names for a known seed: the draw must be the same on every machine and in every version.
    assert draw_labelled(SCENES, 0.1, 0) == ["scene-0002", "scene-0008", "scene-0024", "scene-0037"]


def test_every_scene_has_the_same_chance():
    counts = np.zeros(len(SCENES))
    for seed in range(2000):
        counts[[SCENES.index(name) for name in draw_labelled(SCENES, 0.1, seed)]] += 1
    # Binomial(2000, 0.1): 200 with a standard deviation of 13.4.
    assert np.abs(counts - 200).max() < 4.5 * 13.4


def test_more_labels_keep_the_earlier_ones():
    drawn = [set(draw_labelled(SCENES, fraction, 1)) for fraction in (0.05, 0.1, 0.3, 1)]
    assert all(a <= b for a, b in pairwise(drawn))


@pytest.mark.parametrize("added", [1, 5, 60])
def test_added_scenes_do_not_reshuffle_the_old_ones(added):
    more = [f"drive-{i}" for i in range(added)]
    for seed in range(30):
        before, after = set(draw_labelled(SCENES, 0.2, seed)), set(draw_labelled(SCENES + more, 0.2, seed))
        old = after & set(SCENES)
        assert old <= before or before <= old
        if added == 1:
            assert len(before - after) <= 1


def test_nonsense_is_refused():
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            draw_labelled(SCENES, fraction, 0)
    with pytest.raises(ValueError, match="twice: b"):
        draw_labelled(["a", "b", "b"], 0.5, 0)
