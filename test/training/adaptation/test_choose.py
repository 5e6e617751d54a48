# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ranking of frames to label: against an exhaustive loop, and on frames of known agreement."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_up_scans import shift
from occle_train.adaptation.choose import Candidate, candidates, choose
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.teacher import ClassVolume, Teacher
from rooms import BUILDING, CLASSES, ROAD, Rooms, spec
from test_votes_and_targets import talkative

WORLD = Rooms("a").world(0)


def hellinger(p, q):
    return np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2)


@given(st.integers(0, 500))
def test_each_choice_is_the_best_of_those_that_are_left(seed):
    rng = np.random.default_rng(seed)
    frames = [Candidate("a", i, float(rng.random()), rng.dirichlet(np.ones(5))) for i in range(9)]
    chosen = choose(frames, 6)
    assert len(set(chosen)) == 6 and sorted(choose(frames, 100)) == list(range(9))
    for count, number in enumerate(chosen):
        gains = {
            n: frame.disagreement * min([1, *(hellinger(frame.classes, frames[k].classes) for k in chosen[:count])])
            for n, frame in enumerate(frames)
            if n not in chosen[:count]
        }
        assert np.isclose(gains[number], max(gains.values()))


def test_twins_are_not_both_chosen_early():
    same = np.array([1.0, 0, 0])
    frames = [Candidate("a", 0, 0.9, same), Candidate("a", 1, 0.89, same), Candidate("a", 2, 0.3, np.array([0, 1.0, 0]))]
    assert choose(frames, 3) == [0, 2, 1]


class Drive(Rooms):
    """A standing sensor; its poses say so, or that it drives."""

    lidar_frame = grid_frame = "velodyne"
    speed = 0.0

    def pose(self, i):
        return shift(self.speed * i)

    def world(self, i):
        return super().world(0)


def test_wrong_poses_disagree_and_a_sure_standing_sensor_does_not(monkeypatch):
    def certain(self, i):  # a teacher that knows the room
        return ClassVolume(WORLD.astype(np.int32), np.eye(CLASSES.num_classes, dtype=np.float32))

    monkeypatch.setattr(Teacher, "volume", certain)
    config = AdaptConfig(past_frames=2, future_frames=2)
    driving = Drive("a")
    driving.speed = 0.8
    still, wrong = (candidates(spec(), talkative(), [drive], config) for drive in (Drive("a"), driving))
    assert [c.disagreement for c in still] == [0, 0, 0] and min(c.disagreement for c in wrong) > 0.05
    for found in still:
        assert found.scene == "a" and np.isclose(found.classes.sum(), 1) and found.classes[[ROAD, BUILDING]].sum() > 0.99
