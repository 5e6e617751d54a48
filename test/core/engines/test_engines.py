# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Engines: the same labels as eager PyTorch, a cache that trusts nothing, and errors that say what to do."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from forked_python import run_python
from lively import lively, save_untrained, street
from occle_train.evaluation.export import calibrate

from occle_core.build_cache import MANIFEST, cached
from occle_core.bundle import load_bundle
from occle_core.datasets.files import warn_once
from occle_core.engines import parity
from occle_core.engines.base import EngineResult, describe
from occle_core.engines.loading import load_engine
from occle_core.engines.openvino_engine import quantise, upstream_of
from occle_core.engines.static.fallback import FallbackEngine
from occle_core.engines.torch_engine import TorchEngine
from occle_core.errors import EngineError
from occle_core.networks.minkocc.inputs import prepare
from occle_core.occupancy import SparseLabels
from occle_core.predictor import Predictor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines") / "bundle"
    spec = lively(folder)
    calibrate(folder, [prepare(street(spec, seed), spec.voxel_grid, spec.network) for seed in range(3)])
    return folder


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_engine_agrees_with_pytorch(bundle, name):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install 'occle_ros[engines]'")
    spec, network, _ = load_bundle(bundle)
    frames = [prepare(street(spec, seed), spec.voxel_grid, spec.network) for seed in range(3)]
    found = parity.compare(load_engine(spec, network, bundle, name, threads=1), TorchEngine(spec, network), frames, 0)
    assert found.frames == 3 and found.occupied > 1000 and found.overflowed == 0
    assert found.passes("fp32"), found


@pytest.mark.parametrize("name", ["torch", "openvino", "onnxruntime"])
def test_frames_at_once_are_predicted_as_one_by_one(bundle, name):
    if name != "torch":
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'occle_ros[engines]'")
    spec, network, _ = load_bundle(bundle)
    frames = [prepare(street(spec, seed), spec.voxel_grid, spec.network) for seed in range(4)]
    engine = load_engine(spec, network, bundle, name, threads=2, max_concurrent=2)
    alone = [engine.run(frame) for frame in frames]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(engine.run, frames * 3))
    for number, result in enumerate(together):
        np.testing.assert_array_equal(result.labels, alone[number % 4].labels)
        np.testing.assert_array_equal(result.confidence, alone[number % 4].confidence)


def test_the_gate_finds_a_wrong_engine(bundle):
    spec, network, _ = load_bundle(bundle)
    frames = [prepare(street(spec), spec.voxel_grid, spec.network)]
    _, other, _ = load_bundle(bundle)
    with torch.no_grad():
        other.head.weight.add_(0.05 * torch.randn(other.head.weight.shape, generator=torch.Generator().manual_seed(1)))
    found = parity.compare(TorchEngine(spec, other), TorchEngine(spec, network), frames, 0)
    assert found.different > 0 and not found.passes("fp32")
    assert not parity.Parity().passes("fp32"), "no frames, no pass"


def test_auto_says_why(bundle, monkeypatch):
    spec, network, _ = load_bundle(bundle)
    for module in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("OCCLE_NATIVE", "off")
    lines = []
    engine = load_engine(spec, network, bundle, "auto", on_progress=lines.append)
    assert engine.name == "torch"
    text = describe(engine)
    assert "openvino is not installed" in text and "onnxruntime is not installed" in text and "turned off" in text
    assert any("not openvino" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("cuda", "fp32", "there is no engine 'cuda'"),
        ("torch", "int8", "torch runs in fp32, not in int8"),
        ("openvino", "fp16", "openvino runs in fp32, int8, not in fp16"),
        ("auto", "int4", "there is no precision 'int4'"),
    ],
)
def test_impossible_engines(bundle, name, precision, message):
    with pytest.raises(EngineError, match=message):
        Predictor.load(bundle, name, precision)


def test_int8_wants_its_model(bundle):
    pytest.importorskip("openvino", reason="openvino is not installed")
    with pytest.raises(EngineError, match="occle-train export"):
        Predictor.load(bundle, "openvino", "int8")


def test_int8_on_one_cpu_is_refused_before_openvino_dies_of_it(bundle, tmp_path, monkeypatch):
    spec, network, _ = load_bundle(bundle)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with pytest.raises(EngineError, match="two CPUs"):
        quantise(spec, network, tmp_path / "none.onnx", [], tmp_path / "int8.xml")


def test_only_what_leads_to_the_image_convolutions_is_quantised():
    opset = pytest.importorskip("openvino.opset13", reason="openvino is not installed")
    image, uv = opset.parameter([1, 2, 4, 4], np.float32, name="image"), opset.parameter([1], np.float32, name="uv")
    scaled = opset.divide(image, np.float32(255), name="scaled")
    features = opset.convolution(scaled, np.ones((3, 2, 1, 1), np.float32), [1, 1], [0, 0], [0, 0], [1, 1], name="features")
    sampled = opset.relu(features, name="sampled")
    place = opset.floor(uv, name="place")
    model = pytest.importorskip("openvino").Model([sampled, place], [image, uv], "network")
    found = upstream_of(model, "Convolution")
    assert {"image", "scaled", "features"} <= found and not found & {"uv", "sampled", "place"}


def test_a_bundle_without_capacities_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("OCCLE_NATIVE", "off")
    pytest.importorskip("openvino", reason="openvino is not installed")
    save_untrained(tmp_path / "bundle")
    with pytest.raises(EngineError, match="occle-train export"):
        Predictor.load(tmp_path / "bundle", "openvino")
    assert Predictor.load(tmp_path / "bundle", "auto").engine.name == "torch"


def test_predictions_of_an_engine_carry_its_overflow(bundle):
    pytest.importorskip("openvino", reason="openvino is not installed")
    predictor = Predictor.load(bundle, "openvino", threads=1)
    spec, room = predictor.spec, predictor.spec.capacities.sets["voxels"]
    frame = street(spec, points=12_000)
    needed = len(prepare(frame, spec.voxel_grid, spec.network).coords)
    occupancy = predictor.predict(frame)
    assert needed > room + 1000 and occupancy.overflow["voxels"] == needed - room
    assert {"prepare", "pad", "network"} <= set(occupancy.timings)


class Fake:
    """An engine with room for `room` cells."""

    name, precision, device, reason = "fake", "fp32", "CPU", ""

    def __init__(self, room):
        self.room, self.runs = room, 0

    def run(self, inputs):
        self.runs += 1
        over = {"voxels": inputs - self.room} if inputs > self.room else {}
        sparse = SparseLabels.of_volumes(np.full((1, 1, 1), self.room, np.uint8), np.zeros((1, 1, 1), np.float16), 0)
        return EngineResult(sparse, over, {"voxels": inputs}, {"network": 1.0})


def test_two_sizes_run_a_large_frame_again_and_come_back():
    small, large = Fake(10), Fake(100)
    both = FallbackEngine(small, large, {"voxels": 10})
    steps = []
    for count in (5, 10, 11, 10, 9, 9):
        result = both.run(count)
        steps.append((int(result.labels[0, 0, 0]), result.timings["rerun"], result.overflow))
    # 10 of 10 is too near to the limit to go back; 9 is not.
    assert steps == [(10, 0.0, {}), (10, 0.0, {}), (100, 1.0, {}), (100, 0.0, {}), (100, 0.0, {}), (10, 0.0, {})]
    assert both.run(1000).overflow == {"voxels": 900}


def test_intensities_that_nobody_scaled_are_warned_of_once(bundle, caplog):
    predictor = Predictor.load(bundle, "torch")
    frame = street(predictor.spec)
    warn_once.cache_clear()
    predictor.predict(frame)
    assert not caplog.messages
    for stamp in (1, 2):
        predictor.predict(replace(frame, stamp=stamp, points=frame.points * np.array([1, 1, 1, 255], np.float32)))
    assert len(caplog.messages) == 1 and "scale 0..255 by 1/255" in caplog.messages[0]


def build(text, log):
    def fill(folder):
        log.append(text)
        (folder / "model").write_text(text)

    return fill


def test_cache_builds_once_and_by_key(tmp_path):
    log = []
    first = cached({"weights": "a"}, build("a", log), log.append, tmp_path)
    assert cached({"weights": "a"}, build("again", log), log.append, tmp_path) == first
    assert cached({"weights": "b"}, build("b", log), log.append, tmp_path) != first
    assert log == ["a", "b"] and (first / "model").read_text() == "a"


def spoil_file(entry):
    (entry / "model").write_text("something else")


def spoil_key(entry):
    manifest = json.loads((entry / MANIFEST).read_text())
    manifest["key"]["weights"] = "foreign"
    (entry / MANIFEST).write_text(json.dumps(manifest))


def spoil_manifest(entry):
    (entry / MANIFEST).write_text("{")


def lose_file(entry):
    (entry / "model").unlink()


@pytest.mark.parametrize("spoil", [spoil_file, spoil_key, spoil_manifest, lose_file])
def test_cache_rebuilds_what_is_damaged_or_foreign(tmp_path, spoil):
    log = []
    spoil(cached({"weights": "a"}, build("a", log), log.append, tmp_path))
    entry = cached({"weights": "a"}, build("new", log), log.append, tmp_path)
    assert (entry / "model").read_text() == "new"
    assert any("not used" in line for line in log)


def test_what_another_process_built_meanwhile_stays_as_it_is(tmp_path):
    """It may be loading it."""
    entries = []

    def while_another_builds(folder):
        entries.append(cached({"weights": "a"}, build("theirs", []), print, tmp_path))
        (folder / "model").write_text("ours")

    entry = cached({"weights": "a"}, while_another_builds, print, tmp_path)
    assert entry == entries[0] and (entry / "model").read_text() == "theirs"
    assert list(entry.parent.iterdir()) == [entry]


def test_a_folder_that_cannot_even_be_looked_at_is_an_error_that_says_what_to_set(tmp_path):
    """A name that is too long, and for users other than root a folder that may not be entered: /root/.cache in a container."""
    with pytest.raises(EngineError, match="set OCCLE_CACHE to a folder that can be written"):
        cached({"weights": "a"}, print, print, tmp_path / ("x" * 300))


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        cached({"weights": "a"}, fail, print, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


SIGNALS = """
import os, signal
import numpy as np
import openvino
from openvino import opset8
from occle_core.engines.openvino_engine import shared_core

handled = []
signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
value = opset8.parameter([1, 3], np.float32)
model = openvino.Model([opset8.relu(value)], [value])
first, second = (shared_core().compile_model(model, "CPU") for _ in range(2))
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
assert handled == [signal.SIGUSR1]
"""


def test_signals_are_handled_after_engines_have_ended_in_any_order():
    pytest.importorskip("openvino", reason="pip install 'occle_ros[engines]'")
    done = run_python(["-c", SIGNALS])
    assert done.returncode == 0, done.stderr
