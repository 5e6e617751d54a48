# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Several processes score as one does, and share the frames in order."""

import pytest
from occle_train.data.samples import open_all
from occle_train.evaluation.evaluate import evaluate
from occle_train.evaluation.processes import Job, evaluate_in_processes, share_frames
from occle_train.streets import simulate
from occle_train.worker_pool import Workers

from occle_core.bundle import rig_spec, save_bundle, spec_for
from occle_core.networks.occle.config import tiny
from occle_core.predictor import Predictor


def test_frames_are_shared_in_order_and_each_once():
    frames = [[0, 1, 2, 5, 9], [], [3, 4, 7]]
    shares = share_frames(frames, 3)
    assert shares == [{0: [0, 1]}, {0: [2, 5, 9]}, {2: [3, 4, 7]}]
    assert share_frames(frames, 20) == [{0: [i]} for i in frames[0]] + [{2: [i]} for i in frames[2]]
    assert share_frames([[], []], 4) == []


def scored(kind, tmp_path):
    """A tiny bundle with random weights, and a data set to score it on."""
    rig = "nuscenes" if kind == "nuscenes" else "kitti"
    simulate(tmp_path / "data", rig, drives=2, frames=4, scale=0.1, workers=1, every=1)
    spec = rig_spec("tiny", rig)
    if kind == "past":
        spec = spec_for(tiny(frames=2).model_copy(update={"frame_stride": 2}), spec.voxel_grid, spec.taxonomy, "past")
    save_bundle(tmp_path / "bundle", spec, spec.build())
    return Job(tmp_path / "bundle", "torch", "fp32", 1, tmp_path / "data", (), "recorded")


def without_times(scores):
    return str({name: value for name, value in scores.items() if name != "milliseconds"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nuscenes", "past"])
def test_two_processes_score_as_one_does(tmp_path, kind):
    job = scored(kind, tmp_path)
    datasets, counted = open_all(job.data), []
    alone = evaluate(Predictor.load(job.bundle, threads=1), datasets)
    shared = evaluate_in_processes(job, datasets, 1, Workers(2), counted.append)
    assert sum(counted) == 8 and without_times(shared) == without_times(alone)
