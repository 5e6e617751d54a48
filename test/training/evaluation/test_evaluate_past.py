# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Evaluation shows a network what the node would show it, scores what cannot be predicted as free, and says what is missing."""

import pickle

import numpy as np
import pytest
import torch
from occle_train.data.truth import accumulated, voxel_truth
from occle_train.evaluation import evaluate as module
from occle_train.evaluation import processes
from occle_train.evaluation.evaluate import evaluate
from rooms import GRID, Oracle, Rooms

from occle_core.bundle import save_bundle, spec_for
from occle_core.datasets import DatasetError
from occle_core.frame import Frame
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.predictor import Predictor


class Drive(Rooms):
    """Ten frames at 10 Hz, 1 m apart; each fifth has a truth."""

    def __init__(self, name="a", without_pose=()):
        super().__init__(name, 10)
        self.stamps = [100_000_000 * i for i in range(10)]
        self.without_pose = without_pose

    def has_truth(self, i):
        return i % 5 == 0

    def truth(self, i, grid):
        return super().truth(i, grid) if self.has_truth(i) else None

    def pose(self, i):
        T = np.eye(4)
        T[0, 3] = i
        return None if i in self.without_pose else T

    def frame(self, i):
        frame = super().frame(i)
        return Frame(self.stamps[i], frame.points, frame.images, frame.cameras, frame.T_grid_lidar, self.pose(i))


def predictor(folder, frames, stride):
    network = occle_tiny(frames=frames).model_copy(update={"frame_stride": stride})
    torch.manual_seed(0)
    spec = spec_for(network, GRID, "semantickitti", "looks back")
    save_bundle(folder, spec, spec.build())
    return Predictor.load(folder)


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_the_past_is_the_nodes(tmp_path, frames, stride, monkeypatch):
    """The labels of scored frames are those of a predictor that was given every frame in turn, as the node is."""
    drives = [Drive("a"), Drive("b", without_pose=(4,))]
    scored = {}
    monkeypatch.setattr(
        module.KittiScores,
        "update",
        lambda self, frame: scored.update({(frame.dataset.name, frame.i): frame.labels}),
    )
    monkeypatch.setattr(module.KittiScores, "result", lambda self: {})
    scores = evaluate(predictor(tmp_path / "bundle", frames, stride), drives)
    assert list(scored) == [("a", 0), ("a", 5), ("b", 0), ("b", 5)] and scores["frames"] == 4
    # The first frame of a drive has no past.
    assert scores["short_history"] == ({"filling": 2} if frames > 1 else {})
    node = predictor(tmp_path / "again", frames, stride)
    for drive in drives:
        node.forget()
        for i in range(10):
            labels = node.predict(drive.frame(i)).labels
            if drive.has_truth(i):
                np.testing.assert_array_equal(scored[drive.name, i], labels)
    node.forget()
    alone = node.predict(drives[0].frame(5)).labels
    assert np.array_equal(scored["a", 5], alone) == (frames == 1)  # the past does show in the labels


@pytest.mark.parametrize(("frames", "stride"), [(1, 1), (3, 2)])
def test_parts_of_a_drive_add_up_to_the_scores_of_the_whole(tmp_path, frames, stride, monkeypatch):
    """Each part looks back as far as the network does, also over frames without a pose and those that cannot be used."""

    def far(drive):
        points = drive.points
        drive.points = lambda i: np.full((2, 4), 90, np.float32) if i == 3 else points(i)
        return drive

    drives = [Drive("a", without_pose=(2,)), far(Drive("b"))]
    bundle = predictor(tmp_path / "bundle", frames, stride)
    monkeypatch.setattr(Drive, "has_truth", lambda self, i: i % 2 == 0)
    whole = evaluate(bundle, drives)
    job = processes.Job(tmp_path / "bundle", "torch", "fp32", 1, tmp_path, (), "recorded")
    parts = processes.share_frames([range(0, 10, 2)] * 2, 6)
    first, *others = [pickle.loads(pickle.dumps(processes._measure((job, bundle, drives), part))) for part in parts]
    for other in others:
        first.merge(other)
    found = first.result()
    assert len(parts) == 6 and found["frames"] == 10 and found["short_history"] == whole["short_history"]
    assert str({**found, "milliseconds": 0}) == str({**whole, "milliseconds": 0})


def test_every_counts_the_frames_that_have_a_truth(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "require_frames", lambda frames: seen.extend(i for _, i in frames))
    oracle = Oracle(lambda frame: np.zeros(GRID.shape, np.uint8))
    progress = []
    evaluate(oracle, [Drive()], every=2, on_progress=lambda name, i: progress.append(i))
    assert progress == [0] and seen == [0]
    evaluate(oracle, [Drive()], every=1, on_progress=lambda name, i: progress.append(i))
    assert progress == [0, 0, 5]


def test_a_frame_without_a_point_in_the_grid_is_scored_as_free(tmp_path):
    rooms, empty = Rooms("a"), Rooms("a")
    points = empty.points
    empty.points = lambda i: np.full((2, 4), 90, np.float32) if i == 1 else points(i)
    bundle = predictor(tmp_path / "bundle", 1, 1)
    scores = evaluate(bundle, [empty])
    assert scores["frames"] == 3 and len(scores["unusable"]) == 1
    assert scores["unusable"][0].startswith("a frame 1: ") and "inside the grid" in scores["unusable"][0]
    # Its occupied cells count as missed, and nothing of it as wrong.
    labels = {i: bundle.predict(rooms.frame(i)).labels if i != 1 else np.zeros(GRID.shape, np.uint8) for i in range(3)}
    hit = sum(int(((labels[i] > 0) & (rooms.world(i) > 0)).sum()) for i in range(3))
    either = sum(int(((labels[i] > 0) | (rooms.world(i) > 0)).sum()) for i in range(3))
    assert scores["grid"]["iou"] == pytest.approx(hit / either)
    empty.points = lambda i: np.full((2, 4), 90, np.float32)
    with pytest.raises(DatasetError, match="a frame 0: "):
        evaluate(bundle, [empty])


def test_missing_files_are_listed_before_the_first_frame(tmp_path):
    rooms = [Rooms("a"), Rooms("b")]
    rooms[1].files = lambda i: [tmp_path / f"{i}.bin"]
    with pytest.raises(DatasetError, match=r"3 files are missing or empty, of sequences b \(3\); the first: .*0\.bin"):
        evaluate(Oracle(None), rooms)


def test_frames_without_a_pose_have_no_accumulated_truth():
    """A blank line of poses.txt must not end an evaluation hours after its start."""
    drive = Drive(without_pose=(4, 5))
    assert module.scored_frames(drive, accumulated, 1) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert module.scored_frames(drive, voxel_truth, 1) == [0, 5]
