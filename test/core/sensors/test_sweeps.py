# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sweeps: where their points are, the network's input, and the live history that gives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from compiled_kernels import load_or_skip
from lively import lively_sweeps, street

from occle_core.bundle import load_bundle
from occle_core.engines.loading import load_engine
from occle_core.frame import Frame, FrameError
from occle_core.geometry.trajectory import exp_se3
from occle_core.networks.minkocc.inputs import prepare, with_sweeps
from occle_core.predictor import Predictor
from occle_core.sensors.sweeps import stack_sweeps

TENTH = 100_000_000


def pose(number: int) -> np.ndarray:
    """A car that drives a curve, scan by scan."""
    return exp_se3(np.array([[0.4, 0, 0, 0, 0, 0.02]]) * number)[0]


def drive(spec, count: int) -> list[Frame]:
    """Frames of a drive, oldest first."""
    frames = [replace(street(spec, number, 2000), stamp=number * TENTH, T_world_lidar=pose(number)) for number in range(count)]
    return frames


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of a network that reads three scans."""
    folder = tmp_path_factory.mktemp("sweeps") / "bundle"
    lively_sweeps(folder)
    return folder


def test_points_of_the_past_are_where_they_were_in_the_world(bundle):
    frames = drive(load_bundle(bundle)[0], 3)[::-1]
    stacked = stack_sweeps(frames)
    begin = 0
    for age, frame in enumerate(frames):
        part = slice(begin, begin + len(frame.points))
        begin = part.stop
        world = frame.points[:, :3] @ frame.T_world_lidar[:3, :3].T + frame.T_world_lidar[:3, 3]
        seen = stacked.points[part, :3] @ frames[0].T_world_lidar[:3, :3].T + frames[0].T_world_lidar[:3, 3]
        np.testing.assert_allclose(seen, world, atol=1e-4)
        np.testing.assert_array_equal(stacked.points[part, 3], frame.points[:, 3])
        np.testing.assert_allclose(stacked.ages[part], 0.1 * age, atol=1e-6)
    assert begin == len(stacked.points) and stacked.images is frames[0].images
    with pytest.raises(ValueError, match="pose of each"):
        stack_sweeps([frames[0], replace(frames[1], T_world_lidar=None)])


def test_the_networks_input_has_the_age_of_every_point(bundle):
    spec, network, _ = load_bundle(bundle)
    frames = drive(spec, 4)[::-1]
    inputs = network.prepare(frames, spec.voxel_grid, spec.network)
    assert inputs.points.shape[1] == 11
    assert set(np.round(inputs.points[:, 10].unique().tolist(), 3)) == {0.0, 0.1, 0.2}  # the fourth scan is not read
    alone = network.prepare(frames[:1], spec.voxel_grid, spec.network)
    one = spec.network.model_copy(update={"points": spec.network.points.model_copy(update={"sweeps": 1})})
    before = prepare(frames[0], spec.voxel_grid, one)
    torch.testing.assert_close(alone.points[:, :10], before.points, rtol=0, atol=0)
    assert not alone.points[:, 10].any() and before.points.shape[1] == 10
    # As it comes out of a training set: stacked beforehand.
    again = prepare(with_sweeps(frames, spec.network), spec.voxel_grid, spec.network)
    torch.testing.assert_close(again.points, inputs.points, rtol=0, atol=0)
    with pytest.raises(FrameError, match="ages must be as many"):
        prepare(replace(frames[0], ages=np.zeros(3, np.float32)), spec.voxel_grid, spec.network)


def test_the_live_history_gives_the_scans_before(bundle):
    predictor = Predictor.load(bundle)
    assert (predictor.num_frames, predictor.max_concurrent) == (3, 1)
    frames = drive(predictor.spec, 4)
    found = [predictor.predict(frame) for frame in frames]
    assert [one.short_history for one in found] == ["filling", "filling", "", ""]
    sample = predictor.engine.network.prepare(frames[:0:-1], predictor.grid, predictor.spec.network)
    with torch.inference_mode():
        labels, _ = predictor.engine.network.label_grid(sample, 0)
    np.testing.assert_array_equal(found[3].labels, labels[0].numpy())
    predictor.forget()
    alone = predictor.predict(frames[3])
    assert not np.array_equal(alone.labels, found[3].labels)
    assert all(not frame.images for frame in predictor._history._past)  # ten scans with six images each would be 250 MB
    assert predictor.predict(replace(frames[3], stamp=4 * TENTH, T_world_lidar=None)).short_history == "no_pose"


def test_compiled_kernels_read_sweeps_too(bundle):
    spec, network, _ = load_bundle(bundle)
    load_or_skip()
    engine = load_engine(spec, network, bundle, "native")
    inputs = network.prepare(drive(spec, 3)[::-1], spec.voxel_grid, spec.network)
    with torch.inference_mode():
        labels, _ = network.label_grid(inputs, 0)
    found = engine.run(inputs).labels
    assert (found == labels[0].numpy()).mean() > 0.999 and (found != 0).any()


def test_shipped_bundles_read_one_scan():
    for name in ("kitti", "nuscenes"):
        predictor = Predictor.load(name)
        assert (predictor.num_frames, predictor.spec.network.reads_sweeps) == (1, False)
