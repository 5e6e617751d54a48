# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The engine `native`: eager PyTorch's labels, on every instruction set, and with several threads."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from lively import lively, save_untrained, street

from occle_core import taxonomy
from occle_core.bundle import load_bundle, rig_spec
from occle_core.datasets import list_scenes, open_dataset
from occle_core.engines import parity
from occle_core.engines.loading import load_engine
from occle_core.engines.native_engine import native_engine
from occle_core.engines.torch_engine import TorchEngine
from occle_core.errors import EngineError
from occle_core.native.library import VARIABLE
from occle_core.networks.minkocc.config import ImageConfig, MinkOccConfig, PointConfig, UNetConfig
from occle_core.networks.minkocc.inputs import collate, prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.predictor import Predictor

TIES = 4
STEPS = 2
"""Steps of float16 that confidences may differ by."""


@pytest.fixture(autouse=True, scope="module")
def pytorch_alone():
    """The reference, and the preparation, without any compiled kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "off")
        yield


class Case:
    """A rig's bundle, four frames and what PyTorch says of them; engines by kernels, threads and frames at once."""

    def __init__(self, folder, rig):
        lively(folder, rig)
        self.folder = folder
        self.spec, self.network, _ = load_bundle(folder)
        self.frames = [prepare(street(self.spec, seed), self.spec.voxel_grid, self.spec.network) for seed in range(4)]
        self.reference = TorchEngine(self.spec, self.network)
        self.right = [self.reference.run(frame) for frame in self.frames]
        self._engines = {}

    def engine(self, kernels, *sizes):
        key = (kernels.instructions, *sizes)
        if key not in self._engines:
            self._engines[key] = engine_of(self.spec, self.network, kernels, *sizes)
        return self._engines[key]


@pytest.fixture(scope="module")
def cases(pytorch_alone, tmp_path_factory):
    return {rig: Case(tmp_path_factory.mktemp("native") / "bundle", rig) for rig in ("kitti", "nuscenes")}


@pytest.fixture(params=["kitti", "nuscenes"])
def case(request, cases):
    return cases[request.param]


def engine_of(spec, network, kernels, threads=1, max_concurrent=1):
    return native_engine(spec, network, threads, max_concurrent, lambda text: None, kernels.instructions)


def agree(found, right, ties=0):
    """Equal labels; random weights leave logits within rounding of each other, and `ties` such cells may fall otherwise."""
    equal = found.labels == right.labels
    assert (~equal).sum() <= ties
    steps = np.abs(found.confidence.view(np.int16).astype(int) - right.confidence.view(np.int16).astype(int))
    assert steps[equal].max() <= STEPS


@pytest.mark.parametrize("threads", [1, 2])
def test_labels_are_pytorchs(case, kernels, threads):
    engine = case.engine(kernels, threads)
    for inputs, right in zip(case.frames, case.right):
        assert (right.labels != taxonomy.load(case.spec.taxonomy).free).sum() > 1000
        agree(engine.run(inputs), right, TIES)


def test_one_voxel_and_masked_cameras(case, kernels):
    frame = street(case.spec)
    frame = replace(frame, points=frame.points[:1], images=[None] * len(frame.images))
    inputs = prepare(frame, case.spec.voxel_grid, case.spec.network)
    assert len(inputs.coords) == 1
    agree(case.engine(kernels, 1).run(inputs), case.reference.run(inputs))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_nothing_survives_pruning(case, kernels, level):
    spec, network, _ = load_bundle(case.folder)
    with torch.no_grad():
        network.unet.occupancy[level].bias.fill_(-1e6)
    agree(engine_of(spec, network, kernels).run(case.frames[0]), TorchEngine(spec, network).run(case.frames[0]))


def test_frames_at_once_are_predicted_as_one_by_one(case, kernels):
    engine = case.engine(kernels, 2, 2)
    alone = [engine.run(frame) for frame in case.frames]
    with ThreadPoolExecutor(2) as threads:
        for number, result in enumerate(threads.map(engine.run, case.frames * 4)):
            np.testing.assert_array_equal(result.labels, alone[number % 4].labels)
            np.testing.assert_array_equal(result.confidence, alone[number % 4].confidence)


@pytest.mark.parametrize(
    "config",
    [
        MinkOccConfig(
            image=ImageConfig(num_cameras=2, width=64, height=32, base_width=8, num_stages=1, channels=5),
            points=PointConfig(max_points=1, max_views=2, channels=8),
            unet=UNetConfig(encoder_channels=(20, 36), decoder_channels=(72,), encoder_blocks=(0, 2), prune_thresholds=(0.5,)),
        ),
        MinkOccConfig(
            image=ImageConfig(num_cameras=1, width=96, height=64, base_width=8, num_stages=3, channels=17, backbone="resnet50"),
            points=PointConfig(max_points=70, max_views=1, channels=8),
            unet=UNetConfig(
                encoder_channels=(4, 8, 140), decoder_channels=(4, 100), encoder_blocks=(2, 1, 1), prune_thresholds=(0.5, 0.5)
            ),
        ),
    ],
    ids=["wide decoder", "many points"],
)
def test_any_channel_counts(config, kernels):
    spec = rig_spec("tiny", "kitti").model_copy(update={"network": config})
    torch.manual_seed(3)
    network = MinkOcc(config, taxonomy.load(spec.taxonomy).num_classes, spec.voxel_grid.shape).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
        for head in network.unet.occupancy:
            head.bias.zero_()
    inputs = prepare(street(spec), spec.voxel_grid, config)
    right = TorchEngine(spec, network).run(inputs)
    assert len(np.unique(right.labels)) > 2
    agree(engine_of(spec, network, kernels).run(inputs), right)


def test_it_needs_no_other_engine(case, monkeypatch):
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delenv(VARIABLE)
    engine = load_engine(case.spec, case.network, case.folder, "native", threads=1)
    monkeypatch.setenv(VARIABLE, "off")
    agree(engine.run(case.frames[0]), case.right[0], TIES)


def test_what_it_does_not_run_is_refused(case, kernels, tmp_path):
    engine, inputs = case.engine(kernels, 1), case.frames[0]
    with pytest.raises(ValueError, match="one frame at a time"):
        engine.run(collate([inputs, inputs]))
    with pytest.raises(ValueError, match="outside of one grid"):
        engine.run(replace(inputs, coords=inputs.coords + 1000))
    agree(engine.run(inputs), case.right[0], TIES)  # what went wrong before leaves no trace
    with pytest.raises(EngineError, match="native runs in fp32, not in int8"):
        Predictor.load(case.folder, "native", "int8")
    save_untrained(tmp_path / "occle", kind="occle")
    with pytest.raises(EngineError, match="runs networks of kind minkocc, not occle"):
        Predictor.load(tmp_path / "occle", "native")


@pytest.mark.parametrize("rig", ["kitti", "nuscenes"])
def test_the_shipped_bundles_on_real_frames(rig, kernels, real_data):
    folder = f"config/bundles/{rig}"
    spec, network, _ = load_bundle(folder)
    path = real_data / {"kitti": "semantickitti/dataset", "nuscenes": "nuscenes"}[rig]
    scans = [open_dataset(path, scene=scene).frame(0) for scene in list_scenes(path)[-2:]]
    frames = [prepare(frame, spec.voxel_grid, spec.network) for frame in scans]
    free = taxonomy.load(spec.taxonomy).free
    found = parity.compare(engine_of(spec, network, kernels), TorchEngine(spec, network), frames, free)
    assert found.frames == 2 and found.occupied > 20_000 and found.different <= 1 and found.confidence < 0.002, found
