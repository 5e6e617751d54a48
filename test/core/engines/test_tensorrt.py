# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The engines for NVIDIA GPUs, as far as that can be tested without one: building, refusing, and what float16 changes."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from occle_core.bundle import load_bundle, rig_spec, spec_for
from occle_core.engines import tensorrt_engine, tensorrt_rtx_engine
from occle_core.engines.cuda import requirements
from occle_core.engines.float16 import to_float16
from occle_core.engines.static.measure import limits_of
from occle_core.engines.static.onnx_file import onnx_of
from occle_core.engines.static.program import input_names, program_for
from occle_core.engines.tensorrt_engine import TensorRtEngine, program_of
from occle_core.engines.tensorrt_rtx_engine import TensorRtRtxEngine, build_plan, plan_of
from occle_core.errors import EngineError
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.capacities import Capacities
from occle_core.networks.minkocc.config import ImageConfig, MinkOccConfig, PointConfig, UNetConfig
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.sparse import SparseTensor

GRID = VoxelGrid((0.0, -3.2, -1.6), (16, 16, 8), 0.4)


@pytest.fixture(scope="module")
def small():
    """Every part of a network, as small as they come, with capacities that hold any frame."""
    config = MinkOccConfig(
        image=ImageConfig(width=64, height=32, base_width=8, num_stages=1, channels=4),
        points=PointConfig(max_points=2, max_views=1, channels=8),
        unet=UNetConfig(encoder_channels=(8, 8), decoder_channels=(8,), encoder_blocks=(1, 1), prune_thresholds=(0.5,)),
    )
    spec = spec_for(config, GRID, "semantickitti", "small")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = spec.build().eval()
    for head in network.unet.occupancy:
        torch.nn.init.zeros_(head.bias)
    sets = limits_of(network, 2)
    everything = Capacities(points=sets.pop("points"), sets=sets)
    return spec.model_copy(update={"capacities": everything}), network


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as PyTorch would report it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "RTX 4090")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


# Builds


def test_rtx_accepts_the_whole_network_and_builds_it_once(small, cache):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError, reason="pip install 'occle_ros[tensorrt_rtx]'")
    spec, network = small
    lines = []
    plan = plan_of(spec, network, "fp16", "8.9", lines.append, cache)
    assert plan.stat().st_size > 100_000 and len(lines) == 2
    assert plan_of(spec, network, "fp16", "8.9", lines.append, cache) == plan and len(lines) == 2
    plan.write_bytes(plan.read_bytes()[:-1])
    assert plan_of(spec, network, "fp16", "8.9", lines.append, cache).stat().st_size > 100_000
    assert "was changed" in lines[2]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["kitti", "nuscenes", "base-kitti", "base-nuscenes"])
def test_rtx_accepts_every_shipped_bundle_and_the_papers_size(name, precision, tmp_path, request):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError, reason="pip install 'occle_ros[tensorrt_rtx]'")
    rig = name.removeprefix("base-")
    spec, network, _ = load_bundle(request.config.rootpath / "config" / "bundles" / rig)
    if name.startswith("base"):
        # As many voxels as the shipped bundle of the rig found, and three times its points.
        sizes = spec.capacities.model_copy(update={"points": 3 * spec.capacities.points})
        spec = rig_spec("base", rig).model_copy(update={"capacities": sizes})
        network = spec.build().eval()
    plan = plan_of(spec, network, precision, "8.9", lambda text: None, tmp_path)
    # No engine can be smaller than the weights that it holds.
    weights = sum(value.numel() for value in network.parameters()) * (2 if precision == "fp16" else 4)
    assert plan.stat().st_size > weights * 0.9


def test_a_refused_operator_is_named(tmp_path):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError, reason="pip install 'occle_ros[tensorrt_rtx]'")
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    info = [make.make_tensor_value_info(name, onnx.TensorProto.UINT8, [4]) for name in "xy"]
    node = make.make_node("Add", ["x", "x"], ["y"], name="sum_of_bytes")
    graph = make.make_graph([node], "bytes", info[:1], info[1:])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)]), tmp_path / "bytes.onnx")
    with pytest.raises(EngineError, match=r"refuses .*bytes\.onnx: Add sum_of_bytes"):
        build_plan(tmp_path / "bytes.onnx", "8.9", tmp_path / "bytes.plan")
    assert not (tmp_path / "bytes.plan").exists()


def test_a_gpu_that_rtx_does_not_know_is_named_with_those_that_it_does():
    trt = pytest.importorskip("tensorrt_rtx", exc_type=ImportError, reason="pip install 'occle_ros[tensorrt_rtx]'")
    assert tensorrt_rtx_engine._target(trt, "12.0") == trt.ComputeCapability.SM120
    with pytest.raises(EngineError, match=r"capability 9\.0, only for 7\.5, 8\.0, 8\.6, 8\.9, 12\.0.*use engine: tensorrt"):
        tensorrt_rtx_engine._target(trt, "9.0")


# What the cache goes by


def test_every_precision_gpu_and_network_has_its_own_rtx_engine(small, tmp_path, monkeypatch):
    spec, network = small
    built = []
    monkeypatch.setattr(tensorrt_rtx_engine, "tensorrt_rtx", lambda: SimpleNamespace(__version__="1"))
    monkeypatch.setattr(tensorrt_rtx_engine, "onnx_of", lambda *_: tmp_path / "model.onnx")
    monkeypatch.setattr(tensorrt_rtx_engine, "build_plan", lambda model, gpu, out: out.write_text(built.append(gpu) or gpu))
    plan = lambda precision, gpu: plan_of(spec, network, precision, gpu, lambda text: None, tmp_path)  # noqa: E731
    plans = {plan(precision, gpu) for precision in ("fp32", "fp16") for gpu in ("8.6", "8.9") for _ in range(2)}
    assert len(plans) == len(built) == 4
    monkeypatch.setattr(tensorrt_rtx_engine, "tensorrt_rtx", lambda: SimpleNamespace(__version__="2"))
    assert plan("fp32", "8.6") not in plans
    with torch.no_grad():
        network.head.bias += 1
    assert plan("fp32", "8.6") not in plans and len(built) == 6


def test_tensorrt_saves_what_it_compiled_and_compiles_once(small, tmp_path, monkeypatch, gpu):
    spec, network = small
    calls = []

    def compile_program(exported, arg_inputs, disable_tf32):
        assert isinstance(exported, torch.export.ExportedProgram) and len(arg_inputs) == len(input_names(spec)) and disable_tf32
        return exported

    def save(compiled, path, output_format, arg_inputs):
        calls.append(path)
        torch.export.save(compiled, path)

    fake = SimpleNamespace(__version__="2.13.0", dynamo=SimpleNamespace(compile=compile_program), save=save, load=torch.export.load)
    monkeypatch.setattr(tensorrt_engine, "torch_tensorrt", lambda: fake)
    for kind in (torch.nn.Module, torch.Tensor):
        monkeypatch.setattr(kind, "cuda", lambda self: self)
    path = program_of(spec, network, "fp16", lambda text: None, tmp_path)
    assert program_of(spec, network, "fp16", lambda text: None, tmp_path) == path and len(calls) == 1
    # What stands for the compiled program is the exported one, and so is what it says.
    inputs = some_inputs(spec)
    result = TensorRtEngine(spec, path, "fp16").run(inputs)
    labels, confidence, _ = run(program_for(spec, to_float16(network)), inputs)
    np.testing.assert_array_equal(result.labels, labels[0].numpy())
    np.testing.assert_allclose(result.confidence, confidence[0].numpy(), atol=2e-3)


def test_what_tensorrt_cannot_compile_or_load_is_an_engine_error(small, tmp_path, monkeypatch, gpu):
    spec, network = small
    fake = SimpleNamespace(__version__="2.13.0", dynamo=SimpleNamespace(), load=torch.export.load)
    monkeypatch.setattr(tensorrt_engine, "torch_tensorrt", lambda: fake)
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: None)
    program = SimpleNamespace(cuda=lambda: None, example=lambda: ())
    monkeypatch.setattr(tensorrt_engine, "program_for", lambda *a: program)
    with pytest.raises(EngineError, match=r"cannot compile the network: .*no attribute 'compile'"):
        program_of(spec, network, "fp32", lambda text: None, tmp_path)
    (tmp_path / "model.ep").write_bytes(b"not a program")
    with pytest.raises(EngineError, match=r"cannot load .*model\.ep"):
        TensorRtEngine(spec, tmp_path / "model.ep")


# What is missing


@pytest.mark.parametrize(
    ("package", "ask", "hint"),
    [
        ("tensorrt_rtx", tensorrt_rtx_engine.tensorrt_rtx, r"pip install 'occle_ros\[tensorrt_rtx\]'"),
        ("torch_tensorrt", tensorrt_engine.torch_tensorrt, r"pip install 'occle_ros\[tensorrt\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_command(package, ask, hint, gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=hint):
        ask()


def test_a_missing_gpu_is_said_before_anything_is_built(small, no_gpu, monkeypatch, tmp_path):
    spec, network = small
    monkeypatch.setattr(tensorrt_rtx_engine, "tensorrt_rtx", lambda: SimpleNamespace(__version__="1"))
    for make in (
        lambda: requirements.capability("tensorrt_rtx"),
        lambda: TensorRtRtxEngine(spec, tmp_path / "model.plan"),
        lambda: program_of(spec, network, "fp32", print, tmp_path),
        lambda: TensorRtEngine(spec, tmp_path / "model.ep"),
    ):
        with pytest.raises(EngineError, match=r"engine tensorrt(_rtx)? needs an NVIDIA GPU.*use engine: openvino or torch"):
            make()
    assert not list(tmp_path.iterdir())


def test_a_gpu_says_its_capability(gpu):
    assert requirements.capability("tensorrt") == "8.9"


@pytest.mark.parametrize("make", [lambda *a: plan_of(*a, "int8", "8.9", print), lambda *a: program_of(*a, "int8", print)])
def test_int8_is_not_for_these_engines(small, make):
    with pytest.raises(EngineError, match="fp32 or fp16, not int8"):
        make(*small)


def test_a_foreign_plan_is_refused(small, tmp_path, gpu):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError, reason="pip install 'occle_ros[tensorrt_rtx]'")
    (tmp_path / "model.plan").write_bytes(b"not an engine" * 100)
    with pytest.raises(EngineError, match=r"cannot load .*model\.plan: .+"):
        TensorRtRtxEngine(small[0], tmp_path / "model.plan")


# float16


def some_inputs(spec, seed=0):
    generator = np.random.default_rng(seed)
    points = np.c_[generator.uniform((0, -3, -1.5), (6, 3, 1.5), (400, 3)), generator.random(400)].astype(np.float32)
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    camera = Camera(np.array([[30.0, 0, 32], [0, 30, 16], [0, 0, 1]]), T, 64, 32)
    image = generator.integers(0, 255, (32, 64, 3), dtype=np.uint8)
    return prepare(Frame(0, points, [image], [camera]), GRID, spec.network)


def run(program, inputs):
    padded = MinkOcc.pad(inputs, program.capacities, program.center)
    with torch.inference_mode():
        return program(*(torch.from_numpy(array) for array in padded.values()))


def test_half_precision_is_for_convolutions_alone(small):
    _, network = small
    types = {name: value.dtype for name, value in to_float16(network).named_parameters()}
    for name in ("trunk.conv1.weight", "pyramid.layer_blocks.0.0.weight", "unet.up.0.conv.weight", "unet.grow.conv.bias"):
        assert types[name] == torch.float16
    for name in ("points.fusion.score.weight", "unet.occupancy.0.weight", "head.weight", "unet.encoder.0.0.excite.gate.0.weight"):
        assert types[name] == torch.float32
    assert all(value.dtype == torch.float32 for value in network.parameters())


def test_half_precision_says_nearly_the_same(small):
    spec, network = small
    inputs = some_inputs(spec)
    full, half = (run(program_for(spec, each), inputs) for each in (network, to_float16(network)))
    occupied = (full[0] != 0) | (half[0] != 0)
    assert int(occupied.sum()) > 50
    assert float((full[0] == half[0])[occupied].float().mean()) > 0.97
    assert not torch.equal(full[1], half[1])
    assert full[2][:3].tolist() == half[2][:3].tolist()


def test_means_over_many_voxels_do_not_overflow_in_half_precision(small):
    """Sums over a level leave float16's range (65504) where means do not."""
    _, network = small
    block = to_float16(network).unet.encoder[0][0]
    block.excite.gate = torch.nn.Identity()
    cells = torch.from_numpy(np.indices(GRID.shape).reshape(3, -1).T.copy())
    x = SparseTensor(torch.full((len(cells), 8), 100.0, dtype=torch.float16), cells, GRID.shape)
    assert len(cells) * 100 > 65504
    torch.testing.assert_close(block.excite(x).features, torch.full((len(cells), 8), 100.0 * 100.0))


def test_the_onnx_file_depends_on_the_precision(small, tmp_path, monkeypatch):
    spec, network = small
    monkeypatch.setattr("occle_core.engines.static.onnx_file.write_onnx", lambda spec, network, path: path.write_text("x"))
    assert onnx_of(spec, network, print, tmp_path) != onnx_of(spec, to_float16(network), print, tmp_path)
