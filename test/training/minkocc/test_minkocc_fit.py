# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training learns, is repeatable, and is resumed where it was stopped."""

import csv
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from occle_train.commands.fit import drop_other_classes
from occle_train.data.samples import Samples
from occle_train.loop.curves import draw_curve
from occle_train.loop.sampling import BatchSampler
from occle_train.loop.schedule import blend_matching, copy_matching, warmup_cosine
from occle_train.loop.steps import TrainingHooks
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit, make_loader, make_trainer
from occle_train.process_group import ALONE

from occle_core import taxonomy
from occle_core.bundle import rig_spec
from occle_core.datasets import DatasetError
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera

AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


class Rooms:
    """Flat ground with a few boxes, seen by a LiDAR that misses half of the voxels."""

    kind, name, taxonomy = "rooms", "rooms", taxonomy.load("semantickitti")
    numbers = (0, 1, 2, 3)

    def __len__(self):
        return 4

    def files(self, i):
        return [Path(__file__)]  # a file that is there

    def masks(self, i):
        return {}

    def has_truth(self, i):
        return i < 3

    def truth(self, i, grid):
        if not self.has_truth(i):
            return None
        rng = np.random.default_rng(i)
        labels = np.zeros(grid.shape, np.uint8)
        labels[:64, 32:96, 1] = 9
        for x, y in rng.integers(35, 60, (6, 2)):
            labels[x - 5 : x, y : y + 8, 2:6] = 13
        return labels

    def frame(self, i):
        spec = rig_spec("tiny", "kitti")
        cells = np.argwhere(self.truth(min(i, 2), spec.voxel_grid))
        cells = cells[np.random.default_rng(i).random(len(cells)) < 0.5]
        points = np.concatenate([spec.voxel_grid.centers(cells), np.full((len(cells), 1), 0.3)], 1).astype(np.float32)
        image = np.random.default_rng(i).integers(0, 255, (64, 128, 3), dtype=np.uint8)
        return Frame(i, points, [image], [Camera(np.array([[60.0, 0, 64], [0, 60, 32], [0, 0, 1]]), AXES, 128, 64)])


@pytest.fixture(scope="module")
def samples():
    spec = rig_spec("tiny", "kitti")
    return Samples([Rooms()], spec.voxel_grid, spec.network)


def losses_of(folder):
    with (folder / "log.csv").open() as file:
        return [float(row["total"]) for row in csv.DictReader(file)]


def test_samples_are_the_frames_with_truth(samples):
    assert len(samples) == 3
    counts = samples.class_counts(20)
    assert counts[9] == 3 * 64 * 64 and counts[13] > 0 and counts.sum() == 3 * 128 * 128 * 16
    with pytest.raises(DatasetError, match="no frame"):
        Samples([], samples.grid, samples.network)


def test_it_learns_and_a_stopped_run_goes_on_to_the_same_curve(samples, tmp_path):
    torch.set_num_threads(1)
    spec, config = (
        rig_spec("tiny", "kitti"),
        FitConfig(steps=24, warmup_steps=2, checkpoint_every=8, learning_rate=1e-2, batch_size=2),
    )
    whole = fit(spec, samples, config, tmp_path / "whole")
    curve = losses_of(tmp_path / "whole")
    assert np.mean(curve[-4:]) < 0.6 * np.mean(curve[:2])

    class Stop(Exception):
        pass

    def stop(phase, step, losses):
        if step == 12:
            raise Stop

    with pytest.raises(Stop):
        fit(spec, samples, config, tmp_path / "stopped", hooks=TrainingHooks(stop))
    resumed = fit(spec, samples, config, tmp_path / "stopped")
    assert losses_of(tmp_path / "stopped") == curve
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    draw_curve(tmp_path / "whole" / "log.csv", tmp_path / "curve.png", "rooms")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_a_checkpoint_of_another_configuration_is_refused(samples, tmp_path):
    spec = rig_spec("tiny", "kitti")
    fit(spec, samples, FitConfig(steps=1, warmup_steps=0), tmp_path)
    with pytest.raises(ValueError, match="another configuration"):
        fit(spec, samples, FitConfig(steps=1, warmup_steps=0, seed=5), tmp_path)


def test_minkowski_engine_computes_the_convolutions_where_it_is_asked_for(samples, tmp_path, monkeypatch):
    used = []

    @contextmanager
    def engine(network):
        used.append(network)
        yield

    monkeypatch.setattr("occle_train.minkocc.fit.use_minkowski", engine)
    spec = rig_spec("tiny", "kitti")
    fit(spec, samples, FitConfig(steps=1, warmup_steps=0), tmp_path / "own")
    assert not used
    fit(spec, samples, FitConfig(steps=1, warmup_steps=0, sparse_backend="minkowski"), tmp_path / "theirs")
    assert len(used) == 1


def test_order_visits_every_frame_once_an_epoch_and_can_start_anywhere():
    config = FitConfig(steps=10, batch_size=3)
    steps = dict(BatchSampler(6, config.sampling_plan, 0))
    assert sorted(steps[0] + steps[1]) == list(range(6)) and sorted(steps[2] + steps[3]) == list(range(6))
    assert dict(BatchSampler(6, config.sampling_plan, 4)) == {step: items for step, items in steps.items() if step >= 4}


def test_schedule():
    assert [warmup_cosine(s, 4, 12) for s in (0, 3)] == [0.25, 1.0]
    assert warmup_cosine(8, 4, 12) == pytest.approx(0.5) and warmup_cosine(12, 4, 12) == pytest.approx(0)


def test_weights_move_to_another_class_list_where_they_fit():
    source, target = rig_spec("tiny", "kitti").build(), rig_spec("tiny", "nuscenes").build()
    head = target.head.weight.clone()
    copy_matching(source, target)
    assert torch.equal(source.unet.up[0].conv.weight, target.unet.up[0].conv.weight) and torch.equal(target.head.weight, head)


def test_epochs_set_the_number_of_steps():
    assert FitConfig(epochs=3, batch_size=2).for_frames(5).steps == 8 and FitConfig(steps=7).for_frames(5).steps == 7


def test_a_share_of_the_starting_weights_is_kept(samples, tmp_path):
    spec, config = rig_spec("tiny", "kitti"), FitConfig(steps=1, warmup_steps=0, learning_rate=1e-2)
    torch.manual_seed(3)
    start = spec.build()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    alone = fit(spec, samples, config, tmp_path / "alone", initial=start).state_dict()
    half = fit(spec, samples, config.model_copy(update={"initial_share": 0.25}), tmp_path / "half", initial=start).state_dict()
    moved = 0
    for name, value in half.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * alone[name])
            moved += not torch.equal(alone[name], before[name])
    assert moved > 50 and all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_a_gradient_that_is_not_finite_leaves_the_weights(samples):
    """The next checkpoint would hold weights that are no numbers, and no run could be resumed from it."""
    spec, config = rig_spec("tiny", "kitti"), FitConfig(steps=4, batch_size=1, num_workers=0)
    trainer = make_trainer(spec, samples, config, "cpu", None)
    trainer.network.train()
    trainer.network.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
    batch = next(iter(make_loader(spec, samples, config, ALONE, "cpu", 0)))
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is .*; lower the learning rate"):
        trainer.step(0, batch)
    assert all(torch.equal(one, other) for one, other in zip(before, trainer.network.parameters()))


def test_a_start_from_as_many_other_classes_keeps_the_head_fresh():
    """Twenty classes and twenty classes in another order: the weights would fit."""
    spec, kitti = rig_spec("tiny", "kitti"), taxonomy.load("semantickitti")
    names = dict(zip(reversed(kitti.names), kitti.colors.tolist()))
    turned = taxonomy.TaxonomyConfig(name="turned", classes=names, free="free", voxels={0: 19})
    initial, network = spec.build(), spec.build()
    assert not drop_other_classes(initial, spec, kitti)
    assert drop_other_classes(initial, spec, taxonomy.load(turned))
    fresh = network.head.weight.clone()
    copy_matching(initial, network)
    blend_matching(initial, network, 0.5)
    assert torch.equal(network.head.weight, fresh)
    assert torch.equal(network.unet.state_dict()[name := next(iter(network.unet.state_dict()))], initial.unet.state_dict()[name])
