# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE on engines: a bundle like any other, whose engines say what PyTorch says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from occle_rig import frame, moved
from occle_train.evaluation.export import calibrate
from torch import nn

from occle_core.bundle import load_bundle, save_bundle, spec_for
from occle_core.engines import parity
from occle_core.engines.float16 import to_float16
from occle_core.engines.loading import load_engine
from occle_core.engines.static.measure import limits_of, measure
from occle_core.engines.static.onnx_file import onnx_of, save_onnx
from occle_core.engines.tensorrt_rtx_engine import plan_of
from occle_core.engines.torch_engine import TorchEngine
from occle_core.frame import FrameError
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.networks.occle.fusion import HEAD_GROUPS
from occle_core.networks.occle.geometric import VolumeHead
from occle_core.networks.protocol import Program
from occle_core.networks.registry import prepare
from occle_core.predictor import Predictor

GRID = VoxelGrid((0.0, -3.2, -2.0), (16, 16, 8), 0.4)
"""As small as can be: what an export costs grows with the number of nodes, and these with the logarithm of the cells."""


def frames_of(number, cameras=2):
    """The present frame and the one before it."""
    return [replace(frame(number + past, cameras), T_world_lidar=moved(-past)) for past in range(2)]


def out_of_sight():
    """A past frame of which nothing lies in the present grid any more."""
    present, past = frames_of(0)
    return [present, replace(past, T_world_lidar=moved(-100))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of two frames and two cameras, with classes that differ from cell to cell, calibrated on three frames."""
    folder = tmp_path_factory.mktemp("occle") / "bundle"
    spec = spec_for(occle_tiny(cameras=2, frames=2), GRID, "semantickitti", "occle-test")
    torch.manual_seed(0)
    network = spec.build()
    with torch.no_grad():
        network.fusion.head[-1].weight.mul_(20)
    save_bundle(folder, spec, network)
    calibrate(folder, [prepare(frames_of(number), GRID, spec.network) for number in range(3)])
    return folder


def test_calibration_measures_all_sets(bundle):
    spec, network, _ = load_bundle(bundle)
    assert list(spec.capacities.sets) == list(network.set_names)
    sample = prepare(frames_of(0), GRID, spec.network)
    counts = {name: count for name, (count,) in measure(network, [sample]).items()}
    for name, level in network.set_names.items():
        cells = sample.scans[int(name[-1]) if "semantic" not in name else 0].coords[:, 1:]
        needed = len(torch.unique(cells // 2**level, dim=0))
        # Scans have as many rows as the largest needs.
        assert counts[name] == needed or (level == 0 and counts[name] == max(len(scan.coords) for scan in sample.scans))
        assert needed <= spec.capacities.sets[name] <= limits_of(network, spec.network.max_points)[name]
    assert spec.capacities.sets["voxels.0"] == spec.capacities.sets["voxels.1"]
    assert counts["points"] == max(len(scan.points) for scan in sample.scans) <= spec.capacities.points


def test_a_past_scan_that_has_left_the_grid_adds_nothing(bundle):
    """As one without a point in the grid, wherever its points are."""
    spec, network, _ = load_bundle(bundle)
    gone, nowhere = out_of_sight(), out_of_sight()
    nowhere[1] = replace(nowhere[1], points=np.full((3, 4), 77, np.float32))
    inputs = (prepare(frames, GRID, spec.network) for frames in (gone, nowhere))
    (labels, confidence), (others, sure) = (network.label_grid(each, 0) for each in inputs)
    assert torch.equal(labels, others) and torch.equal(confidence, sure)
    assert not torch.equal(confidence, network.label_grid(prepare(frames_of(0), GRID, spec.network), 0)[1])


class Header(Program):
    """The 3D header of the fused grid, whose norm cannot be folded, by itself."""

    INPUTS = ("grid",)

    def __init__(self):
        super().__init__()
        self.head = VolumeHead(4, 3, nn.GroupNorm(HEAD_GROUPS, 8)).eval()

    def forward(self, grid):
        """(1, 4, X, Y, Z) -> (1, 3, 2X, 2Y, 2Z)."""
        return self.head(grid)

    def example(self):
        """A grid."""
        return (torch.randn(1, 4, 6, 5, 4, generator=torch.Generator().manual_seed(1)),)


def test_the_header_that_is_exported_says_what_pytorchs_says(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    program = Header()
    (grid,) = program.example()
    wanted = program(grid).detach().numpy()
    save_onnx(program, ["logits"], tmp_path / "model.onnx")
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"grid": grid.numpy()})
    assert found.shape == (1, 3, 12, 10, 8) and np.abs(found - wanted).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_engine_agrees_with_pytorch(bundle, name):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install 'occle_ros[engines]'")
    spec, network, _ = load_bundle(bundle)
    frames = [prepare(frames_of(number), GRID, spec.network) for number in range(4)]
    frames.append(prepare(out_of_sight(), GRID, spec.network))
    found = parity.compare(load_engine(spec, network, bundle, name, threads=1), TorchEngine(spec, network), frames, 0)
    assert found.frames == 5 and found.occupied > 2000 and found.overflowed == 0
    assert found.passes("fp32"), found
    assert found.confidence < 0.01


@pytest.mark.slow
def test_the_exported_program_has_no_loops_and_no_data_dependent_sizes(bundle, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    spec, network, _ = load_bundle(bundle)
    model = onnx.load(onnx_of(spec.model_copy(update={"typical": None}), network, print))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Loop", "If", "VoxelisedScan", "NonZero", "Unique", "TopK", "ScatterND"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_rtx_accepts_the_whole_network(bundle, precision):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError, reason="pip install 'occle_ros[tensorrt_rtx]'")
    spec, network, _ = load_bundle(bundle)
    plan = plan_of(spec.model_copy(update={"typical": None}), network, precision, "8.9", lambda text: None)
    weights = sum(value.numel() for value in network.parameters()) * (2 if precision == "fp16" else 4)
    assert plan.stat().st_size > weights * 0.5


@pytest.mark.slow
def test_what_does_not_fit_is_counted_frame_by_frame(bundle, tmp_path):
    pytest.importorskip("onnxruntime")
    spec, network, _ = load_bundle(bundle)
    rows = {name: (100 if name.startswith("voxels") else count) for name, count in spec.capacities.sets.items()}
    small = spec.model_copy(update={"capacities": spec.capacities.model_copy(update={"sets": rows}), "typical": None})
    save_bundle(tmp_path / "small", small, network)
    predictor = Predictor.load(tmp_path / "small", "onnxruntime", threads=1)
    for number, each in enumerate(frames_of(0)[::-1]):
        occupancy = predictor.predict(replace(each, stamp=number))
    scans = prepare(frames_of(0), GRID, spec.network).scans
    assert {name: count for name, count in occupancy.overflow.items() if "voxels" in name} == {
        f"voxels.{number}": len(scan.coords) - 100 for number, scan in enumerate(scans)
    }
    assert occupancy.short_history == "" and {"prepare", "pad", "network"} <= set(occupancy.timings)


def test_eager_predictions_are_timed_by_branch(bundle):
    predictor = Predictor.load(bundle)
    assert (predictor.num_cameras, predictor.num_frames) == (2, 2)
    occupancy = predictor.predict(frames_of(0)[0], "velodyne")
    assert set(occupancy.timings) == {"prepare", "semantic", "geometric", "fusion", "labels"}
    assert occupancy.short_history == "filling" and occupancy.frame_id == "velodyne"
    assert occupancy.labels.shape == GRID.shape and len(np.unique(occupancy.labels)) > 3
    assert ((occupancy.confidence > 0) == occupancy.occupied).all()


def test_a_frame_without_any_image_is_refused_and_not_remembered(bundle):
    predictor = Predictor.load(bundle)
    present, past = frames_of(0)
    predictor.predict(past)
    with pytest.raises(FrameError, match="the frame has no image, and a network of kind occle cannot do without"):
        predictor.predict(replace(present, images=[None, None], stamp=1))
    one_left = replace(present, images=[present.images[0], None], stamp=2)
    assert predictor.predict(one_left).short_history == ""  # the history is that of the first frame


def test_half_precision_says_nearly_the_same(bundle):
    spec, network, _ = load_bundle(bundle)
    half = to_float16(network)
    types = {name: value.dtype for name, value in half.named_parameters()}
    assert types["semantic.image.down.0.0.weight"] == types["geometric.first.conv.weight"] == torch.float16
    assert types["fusion.head.0.weight"] == types["fusion.mamba.merge.weight"] == torch.float32
    sample = prepare(frames_of(0), GRID, spec.network)
    with torch.inference_mode():
        (full, sure), (found, likely) = (each.eval().label_grid(sample, 0) for each in (network, half))
    occupied = (full != 0) | (found != 0)
    assert int(occupied.sum()) > 500 and not torch.equal(sure, likely)
    assert float((full == found)[occupied].float().mean()) > 0.97
