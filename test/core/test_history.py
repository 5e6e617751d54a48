# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What came before: kept in order, forgotten when time jumps or poses are missing, and never silently."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from occle_rig import GRID, frame, moved

from occle_core.bundle import save_bundle, spec_for
from occle_core.frame import Frame, FrameError
from occle_core.history import FrameHistory, past_frames
from occle_core.networks.occle import inputs as occle_inputs
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.predictor import Predictor

TENTH = 100_000_000


def seen(number, stamp=None, pose=True):
    """Frame `number` of a drive at 10 Hz, 1 m a frame."""
    return replace(frame(number), stamp=number * TENTH if stamp is None else stamp, T_world_lidar=moved(number) if pose else None)


def fed(history, *frames):
    out = []
    for each in frames:
        past, reason = history.with_past(each)
        history.keep(each)
        out.append(([one.stamp // TENTH for one in past], reason))
    return out


def test_the_newest_come_first():
    steps = fed(FrameHistory(3), *(seen(number) for number in range(5)))
    assert steps == [([0], "filling"), ([1, 0], "filling"), ([2, 1, 0], ""), ([3, 2, 1], ""), ([4, 3, 2], "")]


def test_a_stride_takes_each_nth_frame_before():
    steps = fed(FrameHistory(3, stride=3), *(seen(number) for number in range(9)))
    assert [frames for frames, _ in steps] == [[0], [1], [2], [3, 0], [4, 1], [5, 2], [6, 3, 0], [7, 4, 1], [8, 5, 2]]
    assert [reason for _, reason in steps] == ["filling"] * 6 + [""] * 3


@pytest.mark.parametrize("stamp", [5, 3 * TENTH, 4 * TENTH, 4 * TENTH - 1, 14 * TENTH + 1])
def test_a_jump_in_time_starts_anew(stamp):
    history = FrameHistory(2)
    fed(history, seen(3), seen(4))
    steps = fed(history, seen(5, stamp), seen(6, stamp + TENTH))
    assert [reason for _, reason in steps] == ["time_jump", ""] and len(steps[0][0]) == 1


def test_a_gap_of_a_second_is_no_jump():
    assert fed(FrameHistory(2), seen(0), seen(1, 10 * TENTH))[1][1] == ""


def test_a_frame_without_a_pose_stands_alone_and_is_missing_in_the_history():
    steps = fed(FrameHistory(3), *(seen(number, pose=number != 2) for number in range(6)))
    assert steps[2:] == [([2], "no_pose"), ([3, 1, 0], ""), ([4, 3, 1], ""), ([5, 4, 3], "")]


def test_a_network_of_one_frame_needs_nothing():
    assert fed(FrameHistory(1), seen(0, pose=False), seen(1, 0), seen(2)) == [([0], ""), ([0], ""), ([2], "")]


@given(st.lists(st.tuples(st.integers(-2, 14), st.booleans()), min_size=1, max_size=25), st.integers(1, 5), st.integers(1, 3))
def test_a_recordings_past_is_what_the_node_would_have_kept(steps, frames, stride):
    """Gaps, clocks that stand or go back, and frames without poses: training sees the frames that a Predictor sees."""
    stamps = (TENTH * np.cumsum([step for step, _ in steps])).tolist()
    recording = [
        Frame(stamp, np.zeros((1, 4), np.float32), T_world_lidar=np.eye(4) if posed else None)
        for stamp, (_, posed) in zip(stamps, steps)
    ]
    data = SimpleNamespace(stamps=stamps, pose=lambda i: recording[i].T_world_lidar)
    history = FrameHistory(frames, stride)
    for i, each in enumerate(recording):
        kept, _ = history.with_past(each)
        history.keep(each)
        assert [id(frame) for frame in kept] == [id(recording[k]) for k in past_frames(data, i, frames, stride)]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history") / "bundle"
    spec = spec_for(occle_tiny(frames=2), GRID, "semantickitti", "two")
    torch.manual_seed(0)
    save_bundle(folder, spec, spec.build())
    return Predictor.load(folder, max_concurrent=2)


def test_a_network_that_looks_back_takes_one_frame_after_the_other(predictor, tmp_path):
    assert predictor.max_concurrent == 1
    save_bundle(tmp_path / "one", spec := spec_for(occle_tiny(frames=1), GRID, "semantickitti", "one"), spec.build())
    assert Predictor.load(tmp_path / "one", max_concurrent=2).max_concurrent == 2


def test_the_predictor_shows_the_network_the_frames_before(predictor):
    predictor._history = FrameHistory(2)
    first, second, third = (predictor.predict(seen(number)) for number in range(3))
    assert (first.short_history, second.short_history, third.short_history) == ("filling", "", "")
    sample = occle_inputs.prepare([seen(2), seen(1)], [moved(2), moved(1)], GRID, predictor.spec.network)
    with torch.inference_mode():
        labels, confidence = predictor.engine.network.label_grid(sample, 0)
    np.testing.assert_array_equal(third.labels, labels[0].numpy())
    np.testing.assert_array_equal(third.confidence, confidence[0].numpy())
    alone = predictor.predict(seen(2))
    assert alone.short_history == "time_jump" and not np.array_equal(alone.confidence, third.confidence)


def test_a_frame_that_cannot_be_used_leaves_no_trace(predictor):
    predictor._history = FrameHistory(2)
    predictor.predict(seen(0))
    empty = replace(seen(1), points=np.zeros((0, 4), np.float32))
    outside = replace(seen(2), points=np.full((5, 4), 100, np.float32))
    broken = replace(seen(3), T_world_lidar=np.full((4, 4), np.nan))
    for bad, message in ((empty, "empty"), (outside, "inside the grid"), (broken, "T_world_lidar")):
        with pytest.raises(FrameError, match=message):
            predictor.predict(bad)
    assert predictor.predict(seen(4)).short_history == ""


def test_observed_frames_are_the_past_of_the_next(predictor):
    predictor.forget()
    predictor.predict(seen(0))
    expected = predictor.predict(seen(1))
    predictor.forget()
    predictor.observe(seen(0))
    with pytest.raises(FrameError, match="inside the grid"):
        predictor.observe(replace(seen(0), points=np.full((5, 4), 100, np.float32), stamp=TENTH // 2))
    found = predictor.predict(seen(1))
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    assert found.short_history == ""
    predictor.forget()
    assert predictor.predict(seen(2)).short_history == "filling"


class Recording:
    """A drive of nine frames at 10 Hz: frame 3 has no pose, no point of frame 5 lies in the grid. What was read is kept."""

    def __init__(self):
        self.frames = [seen(number, pose=number != 3) for number in range(9)]
        self.frames[5] = replace(self.frames[5], points=np.full((5, 4), 100, np.float32))
        self.stamps = [frame.stamp for frame in self.frames]
        self.read = []

    def pose(self, i):
        return self.frames[i].T_world_lidar

    def frame(self, i):
        self.read.append(i)
        return self.frames[i]


@pytest.mark.parametrize("order", [[8, 0, 7, 6, 4, 2, 1, 3], [0, 1, 2, 3, 4, 6, 7, 8], [2, 4, 6, 8], [1, 1, 4, 4]])
def test_frames_of_a_recording_have_the_past_that_a_node_would_have(predictor, order):
    recording, live = Recording(), {}
    predictor.forget()
    for i, each in enumerate(recording.frames):
        if i != 5:
            live[i] = predictor.predict(each)
        else:
            with pytest.raises(FrameError):
                predictor.predict(each)
    predictor.forget()
    for i in order:
        found = predictor.predict_recorded(recording, i)
        np.testing.assert_array_equal(found.confidence, live[i].confidence)
        assert found.short_history == live[i].short_history


def test_a_recording_in_order_is_read_once(predictor):
    recording = Recording()
    predictor.forget()
    for i in (0, 1, 4, 6):
        predictor.predict_recorded(recording, i)
    assert recording.read == [0, 1, 2, 3, 4, 5, 6]
    assert predictor.reads(recording, [1, 4, 8]) == [0, 1, 2, 3, 4, 7, 8]


def test_another_recording_has_another_past(predictor):
    first, second = Recording(), Recording()
    predictor.forget()
    predictor.predict_recorded(first, 1)
    assert predictor.predict_recorded(second, 0).short_history == "filling"
    second.read.clear()
    predictor.predict_recorded(second, 2)
    assert second.read == [1, 2]


def test_frames_that_were_changed_otherwise_are_read_again(predictor):
    recording = Recording()
    predictor.forget()
    predictor.recall(recording, 1, lambda frame: replace(frame, images=(None,) * len(frame.images)))
    predictor.predict(recording.frames[1])
    recording.read.clear()
    predictor.recall(recording, 2)
    assert recording.read == [1]
