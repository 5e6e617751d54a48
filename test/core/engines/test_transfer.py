# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Copies to and from a GPU, on the CPU: the same layout and code without pinned memory."""

import numpy as np
import pytest
import torch
from lively import lively, street

from occle_core.bundle import load_bundle
from occle_core.engines.cuda import transfer
from occle_core.engines.cuda.transfer import ALIGNMENT, Staging, download_grid, upload
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.occle.inputs import OccleInputs, VoxelisedScan
from occle_core.sparse import coordinates


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer") / "bundle"
    spec = lively(folder)
    load_bundle(folder)
    return prepare(street(spec), spec.voxel_grid, spec.network)


def tensors(inputs) -> list[torch.Tensor]:
    found = []
    inputs.map(lambda tensor: found.append(tensor) or tensor)
    return found


def test_all_tensors_of_a_frame_travel_in_one_copy(inputs, monkeypatch):
    copies = []
    original = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **kwargs: copies.append(self) or original(self, *args, **kwargs))
    moved = upload(inputs, "cpu")
    assert len(copies) == 1 and copies[0].dtype == torch.uint8
    places = [tensor.data_ptr() for tensor in tensors(moved)]
    assert all((place - places[0]) % ALIGNMENT == 0 for place in places)
    for one, other in zip(tensors(moved), tensors(inputs), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    meta = upload(inputs, "meta")
    assert {tensor.device.type for tensor in tensors(meta)} == {"meta"} and meta.sizes == inputs.sizes


def test_inputs_of_several_scans_keep_their_order():
    scans = [VoxelisedScan(*(torch.full((2, 3), 10 * number + field) for field in range(5))) for number in range(3)]
    inputs = OccleInputs(torch.full((1, 2), 7, dtype=torch.uint8), torch.rand(2, 3, 4), scans)
    moved = upload(inputs, "cpu")
    assert isinstance(moved, OccleInputs) and len(moved.scans) == 3
    for one, other in zip(tensors(moved), tensors(inputs), strict=True):
        assert torch.equal(one, other)


def test_staged_tensors_stay_where_they_are():
    like = [torch.arange(5, dtype=torch.int32), torch.rand(3, 7), torch.zeros(0, 4), torch.tensor([[1]], dtype=torch.uint8)]
    staging = Staging(like, "cpu")
    places = [tensor.data_ptr() for tensor in staging.device]
    for held, tensor in zip(staging.device, like, strict=True):
        assert held.dtype == tensor.dtype and torch.equal(held, tensor)
    staging.host[0].copy_(torch.arange(5) * 2)
    staging.host[1].fill_(3)
    assert torch.equal(staging.device[0], like[0])
    staging.upload()
    assert torch.equal(staging.device[0], like[0] * 2) and (staging.device[1] == 3).all()
    assert [tensor.data_ptr() for tensor in staging.device] == places


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("free", [0, 17])
def test_a_downloaded_grid_is_the_grid(share, free):
    generator = torch.Generator().manual_seed(0)
    occupied = torch.rand(9, 8, 7, generator=generator) < share
    labels = torch.where(occupied, torch.randint(1, 17, occupied.shape, generator=generator), free).to(torch.uint8)
    confidence = torch.where(occupied, torch.rand(occupied.shape, generator=generator), 0).half()
    sparse, (counts,) = download_grid(labels, confidence, free, torch.arange(3, dtype=torch.int32))
    grid, sure = sparse.labels, sparse.confidence
    np.testing.assert_array_equal(grid, labels.numpy())
    np.testing.assert_array_equal(sure, confidence.numpy())
    assert counts.tolist() == [0, 1, 2] and (grid.dtype, sure.dtype) == (np.uint8, np.float16)
    # What a grid that is a view of a larger one holds, as `Coordinates.volume` gives.
    sparse, _ = download_grid(labels[1:-1, 1:-1, 1:-1], confidence[1:-1, 1:-1, 1:-1], free)
    np.testing.assert_array_equal(sparse.labels, labels[1:-1, 1:-1, 1:-1].numpy())


def test_only_cells_that_hold_something_are_copied(monkeypatch):
    labels = torch.zeros(64, 64, 64, dtype=torch.uint8)
    labels[3, 4, 5:15] = 2
    sizes = []
    original = transfer._host_buffer
    monkeypatch.setattr(transfer, "_host_buffer", lambda size, device: sizes.append(size) or original(size, device))
    sparse, _ = download_grid(labels, labels.half(), 0)
    assert sizes == [3 * ALIGNMENT] and len(sparse.cells) == 10


def test_constants_stay_on_a_gpu_and_change_nothing(monkeypatch):
    device = torch.device("cpu")
    fresh = coordinates.constant([(0, 1, 2)], device)
    assert coordinates.constant([(0, 1, 2)], device) is not fresh
    monkeypatch.setattr(coordinates, "KEEPING_DEVICES", ("cpu",))
    coordinates._kept.cache_clear()
    with torch.inference_mode():
        kept = coordinates.constant([(0, 1, 2)], device)
    assert coordinates.constant(((0, 1, 2),), device) is kept and torch.equal(kept, fresh) and not kept.is_inference()
    assert coordinates.constant([(0, 1, 2)], device, torch.int32).dtype == torch.int32
    coordinates._kept.cache_clear()
