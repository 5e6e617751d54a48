# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Calls and memory of a frame on compiled kernels: a gate that counts, because times depend on what else a machine does."""

import tracemalloc
from collections import Counter

import pytest
from lively import lively, street

from occle_core.bundle import load_bundle
from occle_core.engines.native_engine import NativeEngine
from occle_core.native import prepare as native_prepare
from occle_core.native.library import Library
from occle_core.networks.minkocc.inputs import prepare

CALLS, PREPARE_CALLS = 84, 6
"""Of the library, a frame: what was counted on 2026-11-27."""
SPARE, PREPARE_SPARE = 64 << 10, 400 << 10
"""Bytes beyond the results; the second holds the points in the grid's frame."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counts") / "bundle"
    lively(folder)
    spec, network, _ = load_bundle(folder)
    return spec, network, [street(spec, seed) for seed in range(2)]


@pytest.fixture
def calls(monkeypatch):
    found, original = Counter(), Library.call

    def counted(self, name, *arguments):
        found[name] += 1
        return original(self, name, *arguments)

    monkeypatch.setattr(Library, "call", counted)
    return found


def peak(run):
    """Bytes that Python and NumPy hold at most beyond what they held before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_frame_makes_no_memory_but_its_results(frames, kernels, calls):
    spec, network, streets = frames
    engine = NativeEngine(kernels, spec, network, 1)
    inputs = [prepare(frame, spec.voxel_grid, spec.network) for frame in streets]
    for each in inputs:
        sparse = engine.run(each).sparse
    space = engine._own.space
    held = [buffer.ctypes.data for buffer in space._buffers]
    for each in inputs:
        calls.clear()
        used = peak(lambda each=each: engine.run(each))
        assert sum(calls.values()) <= CALLS, calls
        assert used <= 3 * sum(array.nbytes for array in (sparse.cells, sparse.classes, sparse.scores)) + SPARE
    assert [buffer.ctypes.data for buffer in space._buffers] == held, "a buffer was replaced"


def test_preparing_a_frame(frames, kernels, calls, monkeypatch):
    spec, _, streets = frames
    monkeypatch.setattr(native_prepare, "loaded", lambda: kernels)
    inputs = prepare(streets[0], spec.voxel_grid, spec.network)
    calls.clear()
    used = peak(lambda: prepare(streets[0], spec.voxel_grid, spec.network))
    assert sum(calls.values()) <= PREPARE_CALLS, calls
    tensors = []
    inputs.map(lambda tensor: tensors.append(tensor) or tensor)
    assert used <= sum(tensor.numel() * tensor.element_size() for tensor in tensors) + PREPARE_SPARE
