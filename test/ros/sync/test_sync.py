# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occle_ros.config.loading import load_config
from occle_ros.sync.lidar_led import FrameSynchronizer, SyncedMessages
from occle_ros.sync.policy import make_offline_synchronizer

MS = 1_000_000


def play(synchronizer: FrameSynchronizer[str, str], events: str) -> list[SyncedMessages[str, str]]:
    """Run a script: "L100@105" a scan stamped 100 ms that arrives at 105 ms, "A98@101" an image of camera A, "@250" time passes."""
    frames: list[SyncedMessages[str, str]] = []
    for event in events.split():
        what, _, when = event.partition("@")
        now = int(when) * MS if when else int(what[1:]) * MS
        if not what:
            frames += synchronizer.poll(now)
        elif what[0] == "L":
            frames += synchronizer.add_scan(int(what[1:]) * MS, what, now)
        else:
            frames += synchronizer.add_image("AB".index(what[0]), int(what[1:]) * MS, what, now)
    return frames


def shown(frames: list[SyncedMessages[str, str]]) -> list[tuple[str | None, ...]]:
    return [(frame.scan, *frame.images) for frame in frames]


ONE, TWO = ["a"], ["a", "b"]
CASES = {
    "same stamp, image first": (ONE, "A100 L100", [("L100", "A100")]),
    "same stamp, scan first": (ONE, "L100 A100@110", [("L100", "A100")]),
    "waits for the second camera": (TWO, "A100 L100 B101@120", [("L100", "A100", "B101")]),
    "nearest wins, before the scan": (ONE, "A90 A120@121 L100@122", [("L100", "A90")]),
    "nearest wins, after the scan": (ONE, "A70 L100 A110@111", [("L100", "A110")]),
    "an image before the scan waits for a possibly nearer one": (ONE, "A90 L100", []),
    "the deadline ends that": (ONE, "A90 L100 @200", [("L100", "A90")]),
    "not before the deadline": (ONE, "A90 L100 @199", []),
    "a camera's period tells that nothing nearer will come": (ONE, "A10 A90 L100", [("L100", "A90")]),
    "but not if the next may be nearer": (ONE, "A70 A90 L101", []),
    "nothing within the tolerance": (ONE, "A40 A160@160 L100@161", [("L100", None)]),
    "on the tolerance's edge": (ONE, "A150@150 L100@151", [("L100", "A150")]),
    "one camera silent": (TWO, "A100 L100 @200", [("L100", "A100", None)]),
    "both silent": (TWO, "L100 @200 L200 @300", [("L100", None, None), ("L200", None, None)]),
    "a ready frame takes older ones along": (
        TWO, "L100 B105@110 A200@201 B200@202 L200@203", [("L100", None, "B105"), ("L200", "A200", "B200")]
    ),
    "duplicate scan": (ONE, "A100 L100 L100@101 @400", [("L100", "A100")]),
    "scan out of order": (ONE, "A200 L200 L150@210 @900", [("L200", "A200")]),
    "bag starts again": (ONE, "A1000 L1000 A100@1100 L100@1101", [("L1000", "A1000"), ("L100", "A100")]),
    "bag starts again, scan first": (ONE, "A1000 L1000 L100@1101 A100@1102", [("L1000", "A1000"), ("L100", "A100")]),
    "an open frame survives the clock's jump": (
        TWO, "A1000 L1000 L100@1101 A100@1102 B100@1103", [("L1000", "A1000", None), ("L100", "A100", "B100")]
    ),
    "five waiting frames: the oldest goes": (ONE, "L10@1 L20@2 L30@3 L40@4 L50@5", [("L10", None)]),
    "the same image for two scans": (ONE, "L100 L130@130 A140@140", [("L100", "A140"), ("L130", "A140")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_frames(case: str) -> None:
    cameras, events, expected = CASES[case]
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(cameras, tolerance=50 * MS, deadline=100 * MS)
    assert shown(play(synchronizer, events)) == expected


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ("L100 @200", "no_image"),
        ("A40 L100 @200", "stale"),
        ("A160@160 L100@161", "out_of_tolerance"),
        ("A40 A160@160 L100@161", "out_of_tolerance"),
    ],
)
def test_reason_of_a_missing_camera(events: str, reason: str) -> None:
    (frame,) = play(FrameSynchronizer(ONE, tolerance=50 * MS, deadline=100 * MS), events)
    assert frame.masked == {"a": reason}


@pytest.mark.parametrize(
    ("events", "counts"),
    [
        ("A100 L100 L100@101", {"scan_duplicate": 1}),
        ("A200 L200 L150@210", {"scan_out_of_order": 1}),
        ("A100 A100@101", {"image_duplicate:a": 1}),
        ("A100 A90@101", {"image_out_of_order:a": 1}),
        ("A1000 L1000 A100@1100 L100@1101", {"clock_reset": 1, "image_clock_reset:a": 1}),
        ("A1000 A100@1100", {"image_clock_reset:a": 1, "image_unused:a": 1}),
        # The frame goes out at its deadline; the image that it waited for comes after that.
        ("L100 @1100 A100@1150", {"image_late:a": 1}),
        ("A30 A60 L100 A100 L200 A200", {"image_unused:a": 2}),
        ("L0@10 L0@110 L0@210 L0@310 A0@320 A0@420", {"scan_without_stamp": 3, "image_duplicate:a": 1}),
        ("L10@1 L20@2 L30@3 L40@4 L50@5", {"scan_overflow": 1}),
        # A bag of three frames that starts again jumps back by less than the limit.
        ("L100 L200 L300 L100@400 L200@500 L300@600", {"scan_out_of_order": 2, "clock_reset": 1}),
    ],
)
def test_what_was_not_used_is_counted(events: str, counts: dict[str, int]) -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(ONE, tolerance=50 * MS, deadline=1000 * MS)
    play(synchronizer, events)
    assert synchronizer.counts == counts


def test_time_offset_is_added_to_the_cameras_stamps() -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(ONE, tolerance=5 * MS, deadline=100 * MS, offsets=[40 * MS])
    assert shown(play(synchronizer, "A60 L100")) == [("L100", "A60")]


def test_without_cameras_every_scan_is_a_frame_at_once() -> None:
    assert shown(play(FrameSynchronizer([], tolerance=0, deadline=100 * MS), "L100 L200")) == [("L100",), ("L200",)]


def test_a_camera_at_half_rate_is_masked_in_every_frame_mismatch() -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(TWO, tolerance=40 * MS, deadline=60 * MS)
    script = " ".join(f"A{t} {f'B{t}@{t}' if t % 200 == 0 else ''} L{t}@{t + 1}" for t in range(200, 2000, 100))
    frames = play(synchronizer, script + " @2100")
    assert [frame.masked for frame in frames] == [{} if f.stamp % (200 * MS) == 0 else {"b": "stale"} for f in frames]
    assert len(frames) == 18 and all(frame.images[0] for frame in frames)


def test_a_bag_in_a_loop_gives_the_same_frames_every_time() -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(TWO, tolerance=40 * MS, deadline=60 * MS)
    rounds = []
    for number in range(3):
        begin = 10_000 * number
        script = " ".join(f"A{t}@{begin + t} B{t + 10}@{begin + t + 10} L{t}@{begin + t + 20}" for t in range(1000, 3000, 100))
        rounds.append(shown(play(synchronizer, script)))
    assert rounds[0] == rounds[1] == rounds[2] and len(rounds[0]) == 20
    assert synchronizer.counts["clock_reset"] == 2 and not any("missing" in name or "late" in name for name in synchronizer.counts)


def test_one_wild_stamp_does_not_stop_the_frames() -> None:
    """A driver that sends one scan of the far future: the scans after it are not refused as old."""
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(ONE, tolerance=40 * MS, deadline=60 * MS)
    frames = play(synchronizer, "A100 L100 L99999999@150 A200 L200 A300 L300")
    assert ("L200", "A200") in shown(frames) and ("L300", "A300") in shown(frames)


def test_next_deadline_and_flush() -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(ONE, tolerance=50 * MS, deadline=100 * MS)
    assert synchronizer.next_deadline() is None
    play(synchronizer, "L100 L130")
    assert synchronizer.next_deadline() == 200 * MS
    assert shown(synchronizer.flush()) == [("L100", None), ("L130", None)]
    assert synchronizer.next_deadline() is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=40),
    st.integers(0, 60),
    st.data(),
)
def test_every_frame_has_the_nearest_image_of_all(gaps: list[int], tolerance: int, data: st.DataObject) -> None:
    """Images and scans in order, no deadline in reach: compare with a search over all images."""
    scans = [sum(gaps[: i + 1]) * MS for i in range(len(gaps))]
    images = sorted(set(data.draw(st.lists(st.integers(1, max(scans) // MS + 100), max_size=60))))
    events = sorted([(s, 1, s) for s in scans] + [(i * MS, 0, i * MS) for i in images])
    synchronizer: FrameSynchronizer[int] = FrameSynchronizer(ONE, tolerance * MS, deadline=1 << 60, max_open=1000, max_images=1000)
    frames = []
    for now, is_scan, stamp in events:
        frames += synchronizer.add_scan(stamp, stamp, now) if is_scan else synchronizer.add_image(0, stamp, stamp, now)
    frames += synchronizer.flush()
    assert [frame.stamp for frame in frames] == scans
    for frame in frames:
        distances = [abs(i * MS - frame.stamp) for i in images if abs(i * MS - frame.stamp) <= tolerance * MS]
        (chosen,) = frame.images
        if chosen is None:
            assert not distances
        elif len(set(distances)) == len(distances) and _is_regular(images):
            assert abs(chosen - frame.stamp) == min(distances)
        else:
            assert abs(chosen - frame.stamp) <= tolerance * MS


def _is_regular(images: list[int]) -> bool:
    """The camera's period is no guess: all gaps are equal (otherwise an image may close a frame early)."""
    return len({b - a for a, b in pairwise(images)}) <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("LAB"), st.integers(0, 3000), st.integers(0, 20)), max_size=200))
def test_anything_may_come_without_growth_or_error(messages: list[tuple[str, int, int]]) -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer(
        TWO, tolerance=50 * MS, deadline=100 * MS, max_open=3, max_images=5
    )
    now, scans, out = 0, 0, 0
    for kind, stamp, wait in messages:
        now += wait * MS
        scans += kind == "L"
        out += len(play(synchronizer, f"{kind}{stamp}@{now // MS}"))
        assert len(synchronizer._open) <= 3
        assert all(len(camera.stamps) <= 5 and sorted(camera.messages) == camera.stamps for camera in synchronizer._cameras)
    out += len(synchronizer.flush())
    refused = ("scan_duplicate", "scan_out_of_order", "scan_without_stamp")
    assert out + sum(synchronizer.counts[reason] for reason in refused) == scans


LIDARS = {
    "same stamp": ("L100 R100", [("L100", "R100")], {}),
    "nearest in time": ("L100 R90 R130@131", [("L100", "R90")], {}),
    "not near enough": ("R40 L100 R160@161", [("L100", None)], {"rear": "out_of_tolerance"}),
    "never came": ("L100 @200", [("L100", None)], {"rear": "no_scan"}),
    "stopped": ("L100 R100 L200 R200 L300 @400", [("L100", "R100"), ("L200", "R200"), ("L300", None)], {"rear": "stale"}),
    "without the main LiDAR the other leads": (
        "L100 R100 R200 R300 R400 R500 R600 R700 R800", [("L100", "R100"), (None, "R700"), (None, "R800")], {"lidar": "stale"}
    ),
    "the main LiDAR never came": ("R100 R200 R650 R750", [(None, "R650"), (None, "R750")], {"lidar": "no_scan"}),
    "the main LiDAR comes back": ("L100 R100 R200 R500 R700 L800 R800", [
        ("L100", "R100"), (None, "R700"), ("L800", "R800")], {}),
    "a pause of both": ("L100 R100 R5100 L5100 R5200 L5200", [("L100", "R100"), ("L5100", "R5100"), ("L5200", "R5200")], {}),
    "a bag of the other alone starts again": ("R5000 R5500 R5600 R5700 R100 R200 R700 R800", [
        (None, "R5600"), (None, "R5700"), (None, "R700"), (None, "R800")], {"lidar": "no_scan"}),
}  # fmt: skip


@pytest.mark.parametrize("case", LIDARS)
def test_frames_of_two_lidars(case: str) -> None:
    events, expected, masked = LIDARS[case]
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer([], 50 * MS, 100 * MS, lidars={"rear": 0})
    frames = []
    for event in events.split():
        what, _, when = event.partition("@")
        now = int(when or what[1:]) * MS
        if not what:
            frames += synchronizer.poll(now)
        elif what[0] == "L":
            frames += synchronizer.add_scan(int(what[1:]) * MS, what, now)
        else:
            frames += synchronizer.add_lidar(0, int(what[1:]) * MS, what, now)
    assert [(frame.scan, *frame.lidars) for frame in frames] == expected
    assert frames[-1].masked == masked
    assert frames[-1].lead == (frames[-1].scan or frames[-1].lidars[0])


def test_lidars_have_a_tolerance_of_their_own(tmp_path: Path) -> None:
    """Of the rig file: images within 20 ms, scans within 60 ms."""
    lens = "width: 4, height: 4, lens: {fx: 1, fy: 1, cx: 1, cy: 1}"
    (tmp_path / "rig.yaml").write_text(
        "lidars: {top: {topic: /top}, rear: {topic: /rear}}\n"
        f"cameras: {{front: {{topic: /front, {lens}}}}}\n"
        "tolerances: {camera_ms: 20, lidar_ms: 60}\n"
    )
    synchronizer = make_offline_synchronizer(load_config(None, tmp_path / "rig.yaml"))
    synchronizer.add_scan(100 * MS, "L", 0)
    synchronizer.add_lidar(0, 145 * MS, "R", 0)
    (frame,) = synchronizer.add_image(0, 125 * MS, "I", 0)
    assert (frame.lidars, frame.images, frame.masked) == (("R",), (None,), {"front": "out_of_tolerance"})


def test_lidars_are_counted_like_cameras() -> None:
    synchronizer: FrameSynchronizer[str, str] = FrameSynchronizer([], 50 * MS, 100 * MS, lidars={"rear": 5 * MS, "side": 0})
    assert not synchronizer.add_scan(100 * MS, "L", 0)
    assert not synchronizer.add_lidar(0, 96 * MS, "R", 0)
    (frame,) = synchronizer.poll(100 * MS)
    assert (frame.lidars, frame.masked) == (("R", None), {"side": "no_scan"})
    synchronizer.add_lidar(1, 100 * MS, "S", 101 * MS)
    synchronizer.add_lidar(0, 96 * MS, "R", 102 * MS)
    assert synchronizer.counts == {"lidar_late:side": 1, "lidar_duplicate:rear": 1}
    for stamp in (300, 400, 700, 800):  # the third of three leads only where the second is silent as well
        synchronizer.add_lidar(0, (stamp - 5) * MS, f"R{stamp}", stamp * MS)
        synchronizer.add_lidar(1, stamp * MS, f"S{stamp}", stamp * MS)
    assert synchronizer.counts["lidar_led"] == 2
