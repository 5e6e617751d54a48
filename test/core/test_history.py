"""What came before: kept in order, forgotten when time jumps or poses are missing, and never silently."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from occle_rig import GRID, frame, moved

from occle_core.bundle import save_bundle, spec_for
from occle_core.frame import FrameError
from occle_core.history import History
from occle_core.nn import occle_inputs
from occle_core.nn.networks import predict
from occle_core.nn.occle_config import occle_tiny
from occle_core.predictor import Predictor

TENTH = 100_000_000


def seen(number, stamp=None, pose=True):
    """Frame `number` of a drive at 10 Hz, 1 m a frame."""
    return replace(frame(number), stamp=number * TENTH if stamp is None else stamp, T_world_lidar=moved(number) if pose else None)


def fed(history, *frames):
    out = []
    for each in frames:
        past, reason = history.with_past(each)
        history.keep(past)
        out.append(([one.stamp // TENTH for one in past], reason))
    return out


def test_the_newest_come_first():
    steps = fed(History(3), *(seen(number) for number in range(5)))
    assert steps == [([0], "filling"), ([1, 0], "filling"), ([2, 1, 0], ""), ([3, 2, 1], ""), ([4, 3, 2], "")]


@pytest.mark.parametrize("stamp", [5, 3 * TENTH, 4 * TENTH - 1, 14 * TENTH + 1])
def test_a_jump_in_time_starts_anew(stamp):
    history = History(2)
    fed(history, seen(3), seen(4))
    steps = fed(history, seen(5, stamp), seen(6, stamp + TENTH))
    assert [reason for _, reason in steps] == ["time_jump", ""] and len(steps[0][0]) == 1


def test_a_gap_of_a_second_is_no_jump():
    assert fed(History(2), seen(0), seen(1, 10 * TENTH))[1][1] == ""


def test_without_a_pose_a_frame_stands_alone_and_is_not_remembered():
    steps = fed(History(2), seen(0), seen(1), seen(2, pose=False), seen(3), seen(4))
    assert steps[2:] == [([2], "no_pose"), ([3], "filling"), ([4, 3], "")]


def test_a_network_of_one_frame_needs_nothing():
    assert fed(History(1), seen(0, pose=False), seen(1, 0), seen(2)) == [([0], ""), ([0], ""), ([2], "")]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history") / "bundle"
    spec = spec_for(occle_tiny(frames=2), GRID, "semantickitti", "two")
    torch.manual_seed(0)
    save_bundle(folder, spec, spec.build())
    return Predictor.load(folder, at_once=2)


def test_a_network_that_looks_back_takes_one_frame_after_the_other(predictor, tmp_path):
    assert predictor.at_once == 1
    save_bundle(tmp_path / "one", spec := spec_for(occle_tiny(frames=1), GRID, "semantickitti", "one"), spec.build())
    assert Predictor.load(tmp_path / "one", at_once=2).at_once == 2


def test_the_predictor_shows_the_network_the_frames_before(predictor):
    predictor._history = History(2)
    first, second, third = (predictor.predict(seen(number)) for number in range(3))
    assert (first.short_history, second.short_history, third.short_history) == ("filling", "", "")
    sample = occle_inputs.prepare([seen(2), seen(1)], [moved(2), moved(1)], GRID, predictor.spec.network)
    with torch.inference_mode():
        labels, confidence = predict(predictor.engine.network, sample, 0)
    np.testing.assert_array_equal(third.labels, labels[0].numpy())
    np.testing.assert_array_equal(third.confidence, confidence[0].numpy())
    alone = predictor.predict(seen(2))
    assert alone.short_history == "time_jump" and not np.array_equal(alone.confidence, third.confidence)


def test_a_frame_that_cannot_be_used_leaves_no_trace(predictor):
    predictor._history = History(2)
    predictor.predict(seen(0))
    empty = replace(seen(1), points=np.zeros((0, 4), np.float32))
    outside = replace(seen(2), points=np.full((5, 4), 100, np.float32))
    broken = replace(seen(3), T_world_lidar=np.full((4, 4), np.nan))
    for bad, message in ((empty, "empty"), (outside, "inside the grid"), (broken, "T_world_lidar")):
        with pytest.raises(FrameError, match=message):
            predictor.predict(bad)
    assert predictor.predict(seen(4)).short_history == ""
