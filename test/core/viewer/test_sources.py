# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sources of frames: which frames, and what is said of unusable files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from dataset_files import write_semantickitti
from lively import lively_sweeps, save_untrained
from view_frames import GRID, view_frame

from occle_core.datasets import open_dataset
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.predictor import Predictor
from occle_core.viewer.sources import Selection, dataset_source, is_results, results_source
from occle_core.viewer.view_frame import ViewError, ViewFrame


def write_results(folder, count=4, **changes):
    """What `occle run` writes."""
    (folder / "frames").mkdir(parents=True)
    (folder / "pictures").mkdir()
    for number in range(count):
        occupancy = view_frame(number).occupancy
        arrays = {
            "labels": occupancy.labels,
            "confidence": occupancy.confidence,
            "stamp": np.int64(occupancy.stamp),
            "origin": np.array(GRID.origin),
            "resolution": np.float64(GRID.resolution),
            "taxonomy": np.str_("semantickitti"),
            "frame_id": np.str_("velodyne"),
            "timings": np.str_('{"prepare": 4.5}'),
            "T_world_grid": np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * number,
        }
        np.savez_compressed(folder / "frames" / f"{number:06d}.npz", **{**arrays, **changes})
    cv2.imwrite(str(folder / "pictures" / "000002_cam2.png"), np.full((4, 6, 3), (0, 0, 255), np.uint8))
    cv2.imwrite(str(folder / "pictures" / "000002.png"), np.zeros((4, 6, 3), np.uint8))
    (folder / "summary.json").write_text(json.dumps({"bundle": "small-1"}))
    return folder


def test_results_are_shown_as_they_were_saved(tmp_path):
    assert not is_results(tmp_path)
    folder = write_results(tmp_path / "run")
    assert is_results(folder)
    source = results_source(folder, Selection())
    assert (source.title, source.total, source.count, source.camera_names) == ("run", 4, 4, ("cam2",))
    assert "small-1" in source.subtitle
    shown = list(source.frames)
    for number, frame in enumerate(shown):
        expected = view_frame(number).occupancy
        np.testing.assert_array_equal(frame.occupancy.labels, expected.labels)
        np.testing.assert_array_equal(frame.occupancy.confidence, expected.confidence)
        assert (frame.number, frame.occupancy.stamp, frame.occupancy.grid) == (number, expected.stamp, GRID)
        assert frame.occupancy.timings == {"prepare": 4.5} and frame.T_world_grid[0, 3] == number
    assert [list(frame.images) for frame in shown] == [[], [], ["cam2"], []]
    np.testing.assert_array_equal(shown[2].images["cam2"][0, 0], (255, 0, 0))


@pytest.mark.parametrize(("limit", "every", "numbers"), [(None, 1, [0, 1, 2, 3]), (2, 1, [0, 1]), (None, 3, [0, 3]), (1, 2, [0])])
def test_the_selection(tmp_path, limit, every, numbers):
    source = results_source(write_results(tmp_path / "run"), Selection(limit, every))
    assert (source.total, source.count) == (4, len(numbers))
    assert [shown.number for shown in source.frames] == numbers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taxonomy": np.str_("mine")}, "classes of your own, mine; give the network with --bundle"),
        ({"labels": np.full(GRID.shape, 200, np.uint8)}, "no occupancy of semantickitti"),
        ({"confidence": np.zeros(3, np.float16)}, "no occupancy of semantickitti"),
        ({"timings": np.array([{}], object)}, "is no frame of `occle run`"),
    ],
)
def test_an_unusable_frame_is_one_line(tmp_path, changes, message):
    with pytest.raises(ViewError, match=message) as raised:
        results_source(write_results(tmp_path / "run", **changes), Selection())
    assert "\n" not in str(raised.value) and "000000.npz" in str(raised.value)


def test_a_truncated_frame_is_one_line(tmp_path):
    folder = write_results(tmp_path / "run")
    file = folder / "frames" / "000001.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ViewError, match=r"000001\.npz is no frame"):
        list(results_source(folder, Selection()).frames)


def test_a_bundle_on_a_data_set(tmp_path):
    rng = np.random.default_rng(0)
    scans = [np.c_[rng.uniform((3, -5, -1.5), (20, 5, 1), (500, 3)), np.full(500, 0.3)] for _ in range(3)]
    folder = write_semantickitti(tmp_path / "sequences" / "05", scans, [np.full(500, 40)] * 3)
    save_untrained(tmp_path / "bundle", "tiny", "kitti")
    source = dataset_source(folder, tmp_path / "bundle", Selection(2))
    assert (source.title, source.total, source.count) == ("semantickitti 05", 3, 2)
    shown = list(source.frames)
    assert [list(frame.images) for frame in shown] == [list(source.camera_names)] * 2 and source.camera_names
    assert [len(frame.frame.points) for frame in shown] == [500, 500]
    np.testing.assert_allclose((np.linalg.inv(shown[0].T_world_grid) @ shown[1].T_world_grid)[:3, 3], (1, 0, 0), atol=0.1)
    assert all({"prepare"} <= frame.occupancy.timings.keys() for frame in shown)


def test_a_network_that_looks_back_sees_the_frames_between_those_shown(tmp_path):
    rng = np.random.default_rng(0)
    scans = [np.c_[rng.uniform((3, -5, -1.5), (20, 5, 1), (500, 3)), np.full(500, 0.3)] for _ in range(7)]
    folder = write_semantickitti(tmp_path / "sequences" / "05", scans, [np.full(500, 40)] * 7)
    lively_sweeps(tmp_path / "bundle")
    predictor, dataset = Predictor.load(tmp_path / "bundle"), open_dataset(folder)
    drive = [predictor.predict(dataset.frame(number)) for number in range(7)]
    shown = list(dataset_source(folder, tmp_path / "bundle", Selection(every=3)).frames)
    assert [frame.number for frame in shown] == [0, 3, 6]
    assert [frame.occupancy.short_history for frame in shown] == ["filling", "", ""]
    for frame in shown:
        assert frame.occupancy.occupied.any()
        np.testing.assert_array_equal(frame.occupancy.labels, drive[frame.number].labels)


def test_images_are_shown_from_left_to_right_then_those_behind():
    occupancy = view_frame().occupancy
    azimuths = {"back": 180, "right": -55, "front": 0, "back_left": 110, "left": 55, "back_right": -110}
    cameras = []
    for angle in np.radians(list(azimuths.values())):
        ahead = np.array([np.cos(angle), np.sin(angle), 0])
        T = np.eye(4)
        T[:3, :3] = np.cross(ahead, (0, 0, 1)), (0, 0, -1), ahead
        cameras.append(Camera(np.eye(3), T, 2, 2))
    images = [np.zeros((2, 2, 3), np.uint8)] * 5 + [None]
    frame = Frame(0, np.zeros((0, 4), np.float32), images, cameras)
    shown = ViewFrame.of(0, frame, azimuths, occupancy)
    assert list(shown.images) == ["left", "front", "right", "back_left", "back"]
    assert list(shown.cameras) == [*shown.images, "back_right"]
