# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Times of points, in the layouts of public drivers and in hand-made ones."""

from __future__ import annotations

import numpy as np
import pytest
from driver_clouds import DRIVERS, cloud
from hypothesis import given, settings
from hypothesis import strategies as st

from occle_core.sensors.clouds import points_from_cloud, scan_from_cloud
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.point_times import UNITS, read_times

START = 1_764_180_000_123_456_789


@pytest.mark.parametrize("name", DRIVERS)
@settings(max_examples=20, deadline=None)
@given(
    duration=st.floats(0.02, 0.25), count=st.integers(3, 200), seed=st.integers(0, 2**31), big=st.booleans(), lost=st.booleans(),
    start=st.sampled_from([START, 1_000_000_000_000_000_000, 25_000_000_000]),
)  # fmt: skip
def test_drivers_times_are_seconds_after_the_stamp(name, duration, count, seed, big, lost, start):
    driver, rng = DRIVERS[name], np.random.default_rng(seed)
    seconds = rng.permutation(np.linspace(0, duration, count))
    points = rng.normal(0, 20, (count, 3)).astype(np.float32)
    if lost:
        points[rng.random(count) < 0.3] = np.nan
        points[seconds.argmin()], points[seconds.argmax()] = 1, 2
    message = cloud(driver, seconds, points, start, big)
    scan = scan_from_cloud(message)
    kept = np.isfinite(points).all(axis=1)
    np.testing.assert_array_equal(scan.points, points_from_cloud(message)[0])
    assert scan.dropped == ({"not_finite": int((~kept).sum())} if not kept.all() else {})
    assert scan.time_problem == "" and scan.times is not None
    assert scan.times.meaning == driver.stamp, scan.times.text
    # Microseconds in whole numbers are cut off; a double of seconds since 1970 holds 0.24 us.
    expected = seconds + (start - scan.stamp) / 1e9
    np.testing.assert_allclose(scan.times.offsets, expected[kept], atol=2e-6)
    assert scan.times.first == pytest.approx(scan.times.offsets.min(), abs=1e-6)
    assert scan.times.last == pytest.approx(scan.times.offsets.max(), abs=1e-6)
    assert f"field {driver.time!r}" in scan.times.text and f"the stamp is the scan's {driver.stamp}" in scan.times.text


@settings(max_examples=200, deadline=None)
@given(
    unit=st.sampled_from(sorted(UNITS)), duration=st.floats(0.0021, 1.19), absolute=st.booleans(), share=st.floats(0, 1),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_every_unit_is_recognised_by_how_long_scans_last(unit, duration, absolute, share, seed):
    seconds = np.random.default_rng(seed).uniform(0, duration, 50)
    seconds[:2] = 0, duration
    stamp = START + round(share * duration * 1e9)
    values = (seconds + (START / 1e9 if absolute else -share * duration)) / UNITS[unit]
    found = read_times(values, stamp, "t")
    assert not isinstance(found, str), found
    assert f"{'absolute' if absolute else 'relative'}, in {unit};" in found.text
    np.testing.assert_allclose(found.offsets, seconds - share * duration, atol=3e-6)


@pytest.mark.parametrize("name", ["ouster", "velodyne, first packet"])
@pytest.mark.parametrize(("stamp", "meaning"), [(START, "auto"), (START, "start"), (1_500_000_000, "auto")])
def test_returns_from_a_late_part_of_the_turn_alone_keep_their_times(name, stamp, meaning):
    """An Ouster with an azimuth window of 60 degrees, or a Velodyne in the open beside one car: t counts from the turn's start."""
    seconds = np.linspace(0.0417, 0.0583, 200)
    scan = scan_from_cloud(cloud(DRIVERS[name], seconds, np.ones((200, 3), np.float32), stamp), meaning=meaning)
    assert scan.times is not None, scan.time_problem
    np.testing.assert_allclose(scan.times.offsets, seconds, atol=2e-6)
    assert scan.times.meaning == "start" and (scan.times.first, scan.times.last) == pytest.approx((0.0417, 0.0583))


def test_absolute_times_soon_after_a_simulation_began():
    found = read_times(np.linspace(0.5, 0.6, 9), 500_000_000, "timestamp")
    assert not isinstance(found, str) and (found.first, found.last) == pytest.approx((0.0, 0.1))


@pytest.mark.parametrize(("meaning", "first"), [("start", 0.0), ("middle", -0.05), ("end", -0.1)])
def test_the_stamp_is_what_it_is_set_to(meaning, first):
    """Also for points of another clock, which "auto" refuses."""
    for values in (np.linspace(0, 0.1, 5), 500 + np.linspace(0, 0.1, 5)):
        found = read_times(values, START, "time", meaning)
        assert not isinstance(found, str)
        assert (found.first, found.meaning) == (pytest.approx(first), meaning)
        assert found.text.endswith(f"the stamp is the scan's {meaning} (as set)")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros(5, np.float32), "is 0 for all points"),
        (np.float32(1.7e9) + np.zeros(5, np.float32), "cannot hold absolute times"),
        (np.float32(1.7e9) + np.array([0, 128, 256], np.float32), r"cannot hold absolute times \(steps of 128\)"),
        (np.array([0, 1500]), "in no unit"),
        (np.array([0, np.nan]), "not finite"),
        (np.array([0.0, 1.7e9]), "in no unit"),
        (500 + np.linspace(0, 0.1, 5), "of another clock: .* before the stamp; set the sensor's clock"),
        (np.empty(0), "no values"),
    ],
)
def test_values_that_are_no_times_are_named_with_the_remedy(values, said):
    found = read_times(values, START, "time")
    assert isinstance(found, str)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found)


def test_a_field_of_ones_own_and_none():
    driver, seconds, points = DRIVERS["ouster"], np.linspace(0, 0.1, 9), np.ones((9, 3), np.float32)
    message = cloud(driver, seconds, points, START)
    assert scan_from_cloud(message, time_field="t").times is not None
    with pytest.raises(ConversionError, match=r"no field 'stamps' \(parameter lidar.time_field\); its fields are x float32@0"):
        scan_from_cloud(message, time_field="stamps")
    message.fields = [field for field in message.fields if field.name != "t"]
    assert (scan_from_cloud(message).times, scan_from_cloud(message).time_problem) == (None, "")
