# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""TF32 and bfloat16 are switches: off they change nothing, on they stay close to float32."""

from importlib import import_module

import pytest
import torch
from lively import street
from occle_train.loop.precision import autocast, matmul_precision
from occle_train.minkocc.batches import MinkOccBatch
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import make_loader
from occle_train.minkocc.trainer import Trainer
from occle_train.process_group import ALONE

from occle_core.bundle import rig_spec
from occle_core.networks.minkocc.inputs import collate, prepare
from occle_core.sparse import SparseTensor, SubmanifoldConv3d


@pytest.fixture(scope="module")
def batch():
    spec = rig_spec("tiny", "kitti")
    inputs = collate([prepare(street(spec, seed, 2000), spec.voxel_grid, spec.network) for seed in range(2)])
    generator, shape = torch.Generator().manual_seed(0), (2, *spec.voxel_grid.shape)
    solid = torch.rand(shape, generator=generator) < 0.1
    labels = torch.where(solid, torch.randint(1, 20, shape, generator=generator), 0).to(torch.uint8)
    return spec, MinkOccBatch(inputs, labels, torch.full_like(labels, 255), solid.to(torch.uint8), [])


def trained(spec, batch, precision):
    torch.manual_seed(0)
    network = spec.build().train()
    config = FitConfig(precision=precision)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    trainer = Trainer(network, None, optimizer, (torch.ones(20), torch.ones(20)), 0, config, ALONE)
    values = [trainer.step(step, batch) for step in range(2)]
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    return values


def test_bfloat16_learns_as_float32_does(batch):
    exact, rounded = trained(*batch, "fp32"), trained(*batch, "bf16")
    for one, other in zip(exact, rounded):
        assert other["total"] == pytest.approx(one["total"], rel=0.01) and other["total"] != one["total"]
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=0.05)
    assert trained(*batch, "tf32") == exact  # on a CPU it changes nothing


def test_the_switch_of_tf32_is_put_back():
    before = torch.get_float32_matmul_precision()
    with matmul_precision("tf32", "cuda:1"):
        assert torch.get_float32_matmul_precision() == "high"
    for precision, device in (("fp32", "cuda"), ("tf32", "cpu"), ("bf16", "cpu")):
        with matmul_precision(precision, device):
            assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before
    with autocast("bf16", "cpu"):
        assert torch.is_autocast_enabled("cpu")
    with autocast("tf32", "cpu"):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_sparse_layer_takes_autocasts_type_forward_and_backward(kernel):
    torch.manual_seed(0)
    cells = torch.nonzero(torch.rand(12, 12, 12) < 0.4)
    layer = SubmanifoldConv3d(8, 16, kernel)
    results = []
    for enabled in (False, True):
        features = torch.rand(len(cells), 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        layer.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = layer(SparseTensor(features, cells, (12, 12, 12))).features
        assert out.dtype == (torch.bfloat16 if enabled else torch.float32)
        out.float().square().sum().backward()
        assert features.grad.dtype == layer.weight.grad.dtype == torch.float32
        results.append((out.detach().float(), features.grad, layer.weight.grad))
    for one, other in zip(*results):
        assert (one - other).norm() < 0.02 * one.norm() and not torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_of_a_gpus_chunks_changes_nothing(monkeypatch, dtype):
    """On "meta" no values are computed; the chunks of a GPU are tried on the CPU."""
    module = import_module("occle_core.sparse.gather_gemm")
    on_gpu = torch.empty(1, 64, device="meta", dtype=dtype)
    assert module._chunk_rows(on_gpu, 27 * 64) == (256 << 20) // (27 * 64 * on_gpu.element_size())
    assert module._chunk_rows(on_gpu, 1 << 40) == module._chunk_rows(torch.empty(1), 27 * 64) == 1024
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 3001, (3000, 27), generator=generator, dtype=torch.int32)
    features, grad = (torch.rand(3000, width, generator=generator).to(dtype) for width in (8, 16))
    weight = torch.rand(27, 8, 16, generator=generator).to(dtype)
    gathered = torch.cat([features, features.new_zeros(1, 8)])[rows.long()].flatten(1).double()
    exact = gathered.t() @ grad.double()
    for chunk in (1024, 10**6):
        monkeypatch.setattr(module, "_chunk_rows", lambda features, values, chunk=chunk: chunk)
        tolerance = 1e-5 if dtype == torch.float32 else 0.01
        assert (module._correlate(features, grad, rows, None).double() - exact).norm() < tolerance * exact.norm()
        found = module._multiply(features, weight, rows, None).double()
        expected = gathered @ weight.flatten(0, 1).double()
        assert (found - expected).norm() < tolerance * expected.norm()


def test_batches_are_pinned_and_moved_tensor_by_tensor(batch, monkeypatch):
    spec, whole = batch
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    copied = whole.pin_memory()
    assert len(pinned) == 7 + 3 and torch.equal(copied.inputs.coords, whole.inputs.coords)
    assert {tensor.device.type for tensor in vars(whole.to("meta").inputs).values()} == {"meta"}
    samples = type("Samples", (), {"warm": [0, 1], "weak": None, "__len__": lambda self: 2})()
    for device, expected in (("cpu", False), ("cuda:0", True)):
        loader = make_loader(spec, samples, FitConfig(num_workers=0), ALONE, device, 0)
        assert loader.pin_memory is expected
