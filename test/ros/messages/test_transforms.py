# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""TransformBuffer over time, against a slow reader of the same messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_messages import tf_message as message

from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import LazyTransformBuffer, TransformBuffer, TransformError

MS = 1_000_000
SECOND = 1000 * MS
FRAMES = ("base", "mast", "lidar", "camera")


def at(x: float, yaw: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[0, 3] = x
    return T


class SlowTransforms:
    """Keeps all messages and reads them from the first to the last for every answer. Rotations about z, by their angle."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, float, float, int, bool]] = []

    def link(self, child: str) -> tuple[str, list[tuple[int, float, float]], bool] | None:
        parent, known, fixed = None, [], False
        for up, down, x, yaw, stamp, is_static in self.messages:
            if down != child:
                continue
            if up != parent or is_static != fixed or is_static:
                known = []
            parent, fixed = up, is_static
            known = sorted([*known, (stamp, x, yaw)], key=lambda entry: entry[0])
        return None if parent is None else (parent, known, fixed)

    def step(self, child: str, stamp: int | None, slack: int) -> tuple[str, np.ndarray] | None:
        parent, known, fixed = self.link(child)
        if stamp is None or fixed or (slack and len({entry[1:] for entry in known}) == 1):
            return parent, at(*known[-1][1:])
        before = [entry for entry in known if entry[0] <= stamp]
        after = [entry for entry in known if entry[0] >= stamp]
        if before and after:
            (t0, x0, a0), (t1, x1, a1) = before[-1], after[0]
            share = (stamp - t0) / (t1 - t0) if t1 > t0 else 0
            return parent, at(x0 + share * (x1 - x0), a0 + share * (a1 - a0))
        nearest = before[-1] if before else after[0]
        return (parent, at(*nearest[1:])) if abs(nearest[0] - stamp) <= slack else None

    def lookup(self, target: str, source: str, stamp: int | None, slack: int) -> np.ndarray | None:
        above = {frame: [frame] for frame in (target, source)}
        for chain in above.values():
            while link := self.link(chain[-1]):
                chain.append(link[0])
        common = next((frame for frame in above[source] if frame in above[target]), None)
        if common is None:
            return None
        found = []
        for frame in (target, source):  # what lies above the common frame does not matter, as in tf2
            T = np.eye(4)
            while frame != common:
                step = self.step(frame, stamp, slack)
                if step is None:
                    return None
                frame, T = step[0], step[1] @ T
            found.append(T)
        return np.linalg.inv(found[0]) @ found[1]


PARENTS = {"mast": ("base",), "lidar": ("base", "mast"), "camera": ("lidar", "mast")}
METRES, RADIANS = st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0.0, 0.02])
MESSAGES = st.tuples(st.sampled_from(sorted(PARENTS)), st.integers(0, 1), METRES, RADIANS, st.booleans())
QUESTIONS = st.tuples(
    st.sampled_from(FRAMES), st.sampled_from(FRAMES), st.none() | st.integers(-3, 30), st.sampled_from([0, 200 * MS])
)


def test_what_moves_above_the_common_frame_does_not_matter():
    """Two sensors on a mast whose own place is known at one moment only."""
    transforms = TransformBuffer()
    for child, x in (("lidar", 1.0), ("camera", 2.0)):
        transforms.add(message("mast", child, at(x), 0), fixed=True)
    for second in (5, 6):
        transforms.add(message("base", "mast", at(float(second)), second * SECOND))
    np.testing.assert_allclose(transforms.lookup("lidar", "camera", 99 * SECOND), at(1.0))
    assert not transforms.notes
    with pytest.raises(TransformError, match="base -> mast is known from"):
        transforms.lookup("base", "camera", 99 * SECOND)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.lists(QUESTIONS, max_size=3)), max_size=14))
def test_answers_are_those_of_a_slow_reader_however_transforms_change_in_between(steps):
    """Messages 100 ms apart, questions between them: whatever is kept from an earlier answer must not show."""
    ours, slow = TransformBuffer(), SlowTransforms()
    for number, ((child, choice, x, yaw, is_static), questions) in enumerate(steps):
        parent, stamp = PARENTS[child][choice % len(PARENTS[child])], number * 100 * MS
        ours.add(message(parent, child, at(x, yaw), stamp), fixed=is_static)
        slow.messages.append((parent, child, x, yaw, stamp, is_static))
        for target, source, when, slack in questions:
            moment = None if when is None else when * 50 * MS
            expected = slow.lookup(target, source, moment, slack)
            if expected is None:
                with pytest.raises(TransformError):
                    ours.lookup(target, source, moment, slack)
            else:
                np.testing.assert_allclose(ours.lookup(target, source, moment, slack), expected, atol=1e-5)


def test_a_moving_transform_is_used_a_little_outside_its_known_times_and_that_is_noted():
    transforms = TransformBuffer()
    for tenth in range(3):
        transforms.add(message("base", "mast", at(0.1 * tenth), SECOND + tenth * 100 * MS))
    for stamp, x in ((SECOND - 400 * MS, 0.0), (SECOND + 600 * MS, 0.2)):
        with pytest.raises(TransformError, match=r"base -> mast is known from 1\.000 to 1\.200 s, not at"):
            transforms.lookup("base", "mast", stamp)
        assert not transforms.notes
        assert transforms.lookup("base", "mast", stamp, slack=400 * MS)[0, 3] == pytest.approx(x)
        assert transforms.notes == {"the transform base -> mast was not known at a scan's time: the nearest within 0.4 s was used"}
        transforms.notes.clear()
        with pytest.raises(TransformError):
            transforms.lookup("base", "mast", stamp, slack=399 * MS)


def test_a_transform_on_tf_that_never_changes_counts_as_constant_where_a_slack_is_allowed():
    """Some drivers send their fixed ones on /tf, once or again and again."""
    transforms = TransformBuffer()
    transforms.add(message("sensor", "lidar", at(0.03), 5 * SECOND))
    np.testing.assert_array_equal(transforms.lookup("sensor", "lidar", 900 * SECOND, slack=1), at(0.03))
    transforms.add(message("sensor", "lidar", at(0.03), 6 * SECOND))
    np.testing.assert_array_equal(transforms.lookup("sensor", "lidar", SECOND, slack=1), at(0.03))
    assert not transforms.notes
    with pytest.raises(TransformError, match="not at"):
        transforms.lookup("sensor", "lidar", 900 * SECOND)
    transforms.add(message("sensor", "lidar", at(0.04), 7 * SECOND))
    with pytest.raises(TransformError, match="not at"):
        transforms.lookup("sensor", "lidar", 900 * SECOND, slack=1)


@pytest.mark.parametrize("before", [3000, 300])
def test_after_the_clock_was_set_back_transforms_of_the_time_before_are_gone(before):
    """A bag of a minute or six seconds that is played again, and a simulation that is reset with the robot at another place."""
    transforms = TransformBuffer()
    transforms.add(message("lidar", "camera", at(7.0)), fixed=True)
    for number in range(before):
        transforms.add(message("base", "mast", at(float(number)), 20 * MS * number))
        transforms.add(message("mast", "lidar", at(5.0), 20 * MS * number))  # of a driver that sends a fixed one on /tf
    for number in range(before // 2):
        transforms.add(message("base", "mast", at(-1.0), 20 * MS * number + 3 * MS))
        transforms.add(message("mast", "lidar", at(5.0), 20 * MS * number))
        stamp = max(20 * MS * number, 3 * MS)
        np.testing.assert_allclose(transforms.lookup("base", "mast", stamp), at(-1.0))
        np.testing.assert_allclose(transforms.lookup("base", "camera", stamp, 500 * MS), at(11.0))


def test_a_bag_that_is_read_as_a_whole_keeps_all_transforms():
    transforms = TransformBuffer(kept=None)
    for second in (0, 5, 10, 2):
        transforms.add(message("base", "mast", at(float(second)), second * SECOND))
    np.testing.assert_allclose(transforms.lookup("base", "mast", 9 * SECOND), at(9.0))


def test_answers_cannot_be_changed_by_who_gets_them():
    transforms = TransformBuffer()
    transforms.add(message("base", "lidar", at(1)), fixed=True)
    with pytest.raises(ValueError, match="read-only"):
        transforms.lookup("base", "lidar")[0, 3] = 9


def test_one_impossible_transform_does_not_cost_the_others_of_its_message():
    transforms, both = TransformBuffer(), message("base", "lidar", at(1))
    broken = message("base", "camera", at(2)).transforms[0]
    broken.transform.translation.y = float("nan")
    both.transforms.insert(0, broken)
    with pytest.raises(ConversionError, match="base -> camera: not a transform"):
        transforms.add(both, fixed=True)
    np.testing.assert_array_equal(transforms.lookup("base", "lidar"), at(1))
    with pytest.raises(TransformError):
        transforms.lookup("base", "camera")


def test_transforms_on_demand_are_read_once_and_only_when_asked_for():
    reads = []

    def read() -> TransformBuffer:
        reads.append(1)
        transforms = TransformBuffer()
        transforms.add(message("base", "lidar", at(1)), fixed=True)
        transforms.notes.add("something")
        return transforms

    lazy = LazyTransformBuffer(read)
    assert lazy.notes == set() and not reads
    for _ in range(2):
        np.testing.assert_array_equal(lazy.lookup("base", "lidar", 5, 1), at(1))
    assert lazy.notes == {"something"} and len(reads) == 1
