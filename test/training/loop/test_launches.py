# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Launches of a frame and of a training step, counted on the CPU: a gate against those that creep in, whatever a machine's speed.

The limits are what was counted on 2026-11-26 with PyTorch 2.13, and a tenth more for other versions of PyTorch.
"""

import pytest
import torch
from counting import Launches, as_on_a_gpu
from lively import lively, street
from occle_train.loop.running_average import running_average
from occle_train.minkocc.batches import MinkOccBatch
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.trainer import Trainer
from occle_train.process_group import ALONE

from occle_core.bundle import load_bundle
from occle_core.engines.static.program import program_for
from occle_core.engines.torch_engine import TorchEngine
from occle_core.networks.capacities import Capacities
from occle_core.networks.minkocc.inputs import collate, prepare

EAGER, WAITS = 785, 13  # counted: 712, 12
STATIC = 1150  # 1045
STEP, STEP_WAITS = 1610, 20  # 1465, 18


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launches") / "bundle"
    lively(folder)
    spec, network, _ = load_bundle(folder)
    return spec, network, [prepare(street(spec, seed, 1500), spec.voxel_grid, spec.network) for seed in range(2)]


@pytest.fixture
def on_a_gpu(monkeypatch):
    as_on_a_gpu(monkeypatch)


def counted(run) -> Launches:
    with Launches() as found:
        run()
    return found


def test_an_eager_frame(bundle, on_a_gpu):
    spec, network, frames = bundle
    engine = TorchEngine(spec, network)
    with torch.no_grad():
        found = [counted(lambda frame=frame: engine.network.label_grid(frame, 0)) for frame in frames]
    assert found[0].launches == found[1].launches, "it depends on the frame"
    assert found[0].launches <= EAGER, found[0].names.most_common(12)
    assert found[0].waits <= WAITS, found[0].names


def test_a_frame_of_the_static_form(bundle):
    """What a CUDA graph replays: fixed, so it is counted without running it."""
    spec, network, _ = bundle
    sets = dict.fromkeys(network.set_names, 512)
    program = program_for(spec.model_copy(update={"capacities": Capacities(points=512, sets=sets)}), network)
    with torch.no_grad():
        found = counted(lambda: program(*program.example()))
    assert found.launches <= STATIC, found.names.most_common(12)
    assert found.waits == 0, found.names


def test_a_training_step(bundle, on_a_gpu):
    spec, _, frames = bundle
    generator, shape = torch.Generator().manual_seed(0), (2, *spec.voxel_grid.shape)
    solid = torch.rand(shape, generator=generator) < 0.05
    labels = torch.where(solid, torch.randint(1, 20, shape, generator=generator), 0).to(torch.uint8)
    batch = MinkOccBatch(collate(frames), labels, torch.full_like(labels, 255), solid.to(torch.uint8), [])
    network = spec.build().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    trainer = Trainer(network, None, optimizer, (torch.ones(20), torch.ones(20)), 0, FitConfig(), ALONE)
    average = running_average(network, 0.99)

    def step() -> None:
        trainer.step(0, batch)
        average.update_parameters(network)

    step()
    found = counted(step)
    assert found.launches <= STEP, found.names.most_common(12)
    assert found.waits <= STEP_WAITS, found.names
    assert found.names["_fused_adamw_"] == 1 and found.names["_foreach_lerp_"] == 1


def test_the_count_sees_what_is_added(bundle):
    x = torch.rand(8, 8)
    one, more = counted(lambda: x @ x), counted(lambda: (x @ x).view(-1)[3:].add_(1).sum().item())
    assert (one.launches, more.launches, more.waits) == (1, 3, 1)
