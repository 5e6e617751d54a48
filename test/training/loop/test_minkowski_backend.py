# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkowskiEngine as training backend: the tiny network's sparse part gives the same cells, features and gradients as with ours."""

import sys

import pytest
import torch
from occle_train.loop.minkowski_backend import minkowski_order, use_minkowski

from occle_core.bundle import rig_spec
from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, StridedConv3d, SubmanifoldConv3d

SHAPE = (32, 24, 16)


@pytest.fixture
def engine():
    return pytest.importorskip("MinkowskiEngine", reason="MinkowskiEngine is not installed: docs/how_to/minkowski.md")


def random_tensor(channels, share=0.05, shape=SHAPE):
    generator = torch.Generator().manual_seed(0)
    coords = (torch.rand(2, *shape, generator=generator) < share).nonzero()
    return SparseTensor(torch.randn(len(coords), channels, dtype=torch.float64, generator=generator), coords, shape, 2)


def run(network, x, occupied):
    """Output cells and features, all gradients."""
    network.zero_grad()
    features = x.features.clone().requires_grad_()
    out, levels = network(x.with_features(features), occupied)
    loss = (out.features**2).sum() + sum((level.occupancy**2).sum() for level in levels)
    loss.backward()
    return out, {"features": features.grad, **{name: p.grad for name, p in network.named_parameters() if p.grad is not None}}


def test_the_tiny_network_trains_alike(engine):
    torch.manual_seed(0)
    unet = rig_spec("tiny", "kitti").build().unet.double().train()
    for name, parameter in unet.named_parameters():
        if "norm2" in name:
            torch.nn.init.normal_(parameter)  # residual blocks start as the identity, which would hide their convolutions
    x = random_tensor(8)
    generator = torch.Generator().manual_seed(1)
    shapes = [tuple(n >> level for n in SHAPE) for level in range(3)]
    occupied = [torch.rand(2, *shape, generator=generator) < 0.1 for shape in shapes]
    buffers = {name: value.clone() for name, value in unet.named_buffers()}
    expected, gradients = run(unet, x, occupied)
    unet.load_state_dict(buffers, strict=False)
    with use_minkowski(unet):
        out, found = run(unet, x, occupied)
    assert len(out) > 100 and torch.equal(out.coords, expected.coords)
    torch.testing.assert_close(out.features, expected.features)
    assert found.keys() == gradients.keys() and sum("conv" in name for name in found) > 15
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    "layer",
    [
        SubmanifoldConv3d(4, 5, bias=True),
        StridedConv3d(4, 5),
        StridedConv3d(4, 5, 3),
        StridedConv3d(4, 5, 3, 1),
        GenerativeConvTranspose3d(4, 5, bias=True),
        GenerativeConvTranspose3d(4, 5, 3),
        GenerativeConvTranspose3d(4, 5, 3, 1),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_every_layer_makes_the_same_rows(engine, layer, share):
    layer, x = layer.double(), random_tensor(4, share, (7, 6, 5))
    expected = layer(x)
    with use_minkowski(layer):
        out = layer(x)
    assert torch.equal(out.coords, expected.coords) and out.shape == expected.shape
    torch.testing.assert_close(out.features, expected.features)


def test_minkowski_engine_is_called_inside_the_block_only(engine, monkeypatch):
    calls = []
    insert = engine.CoordinateManager.insert_and_map
    monkeypatch.setattr(engine.CoordinateManager, "insert_and_map", lambda *args: calls.append(1) or insert(*args))
    layers, x = torch.nn.Sequential(SubmanifoldConv3d(4, 4), SubmanifoldConv3d(4, 4)).double(), random_tensor(4)
    with pytest.raises(KeyboardInterrupt), use_minkowski(layers):
        layers(x)
        assert len(calls) == 1, "two layers on the same cells share one map"
        raise KeyboardInterrupt
    layers(x)
    assert len(calls) == 1 and not any("forward" in vars(layer) for layer in layers)


def test_without_minkowski_engine_the_message_says_where_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
    with pytest.raises(ModuleNotFoundError, match=r"docs/how_to/minkowski\.md"), use_minkowski(SubmanifoldConv3d(1, 1)):
        pass


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_order_of_offsets_is_its_own_inverse(kernel):
    order = minkowski_order(kernel)
    assert torch.equal(order[order], torch.arange(kernel**3))
    assert kernel == 1 or not torch.equal(order, torch.arange(kernel**3))
