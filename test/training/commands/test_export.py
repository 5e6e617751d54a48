# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train export` as a user calls it, and the parity gate on the shipped bundles."""

import copy
import os
import shutil
from pathlib import Path

import pytest
from forked_python import run_python
from lively import lively
from occle_train.cli import app
from occle_train.evaluation.export import check, frames_of, write_int8
from occle_train.streets import simulate
from typer.testing import CliRunner

from occle_core.bundle import load_bundle, save_bundle
from occle_core.datasets import list_scenes, open_dataset
from occle_core.engines.torch_engine import TorchEngine

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "bundles"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    out = tmp_path_factory.mktemp("streets") / "kitti"
    simulate(out, "kitti", drives=1, frames=3, seed=4, scale=0.1, workers=1)
    return out


def export(cache, *arguments):
    environment = {**os.environ, "OCCLE_CACHE": str(cache)}
    return run_python(["-m", "occle_train.cli", "export", *map(str, arguments)], environment=environment)


def test_a_bundle_is_measured_and_held_against_pytorch(cache, streets, tmp_path):
    lively(tmp_path / "bundle")
    done = export(cache, tmp_path / "bundle", "--data", streets, "--check", "--engines", "torch")
    assert done.returncode == 0, done.stderr + done.stdout
    spec, _, _ = load_bundle(tmp_path / "bundle")
    assert spec.capacities is not None and spec.capacities.voxels > 100
    assert "torch fp32 on cpu" in done.stdout and "3 frames, 0 of" in done.stdout, done.stdout


@pytest.mark.slow
def test_engines_are_built_and_built_anew_for_other_weights(cache, streets, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'occle_ros[engines]'")
    lively(tmp_path / "bundle")
    done = export(cache, tmp_path / "bundle", "--data", streets, "--check")
    assert done.returncode == 0, done.stderr + done.stdout
    for engine in ("openvino", "onnxruntime"):
        assert f"{engine} fp32 on CPU" in done.stdout
    assert done.stdout.count("3 frames, 0 of") == 2, done.stdout
    spec, network, _ = load_bundle(tmp_path / "bundle")
    network.head.bias.data[1] += 100
    save_bundle(tmp_path / "bundle", spec, network)
    done = export(cache, tmp_path / "bundle", "--data", streets, "--keep-capacities", "--check", "--engines", "onnxruntime")
    assert done.returncode == 0 and "exporting" in done.stdout and "3 frames, 0 of" in done.stdout, done.stdout


def test_an_engine_that_says_something_else_is_refused(streets, tmp_path, monkeypatch):
    lively(tmp_path / "bundle")

    def wrong(spec, network, *arguments, **named):
        other = copy.deepcopy(network)
        other.head.weight.data.neg_()
        return TorchEngine(spec, other)

    monkeypatch.setattr("occle_train.evaluation.export.load_engine", wrong)
    asked = ["export", str(tmp_path / "bundle"), "--data", str(streets), "--check", "--engines", "torch"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1 and "torch: labels differ from PyTorch's" in done.output, done.output


def test_a_network_that_prunes_everything_is_refused_and_its_bundle_left_as_it_is(streets, tmp_path):
    spec = lively(tmp_path / "bundle")
    _, network, _ = load_bundle(tmp_path / "bundle")
    for head in network.unet.occupancy:
        head.weight.data.zero_()
        head.bias.data.fill_(-30)
    save_bundle(tmp_path / "bundle", spec, network)
    before = {file.name: file.read_bytes() for file in (tmp_path / "bundle").iterdir()}
    done = CliRunner().invoke(app, ["export", str(tmp_path / "bundle"), "--data", str(streets)])
    assert done.exit_code == 1 and "predicts nothing on these 3 frames (no rows in" in done.output, done.output
    assert "Train it longer" in done.output and "Traceback" not in done.output
    assert {file.name: file.read_bytes() for file in (tmp_path / "bundle").iterdir()} == before


@pytest.mark.parametrize("asked", [[], ["--check", "--keep-capacities"], ["--int8", "--keep-capacities"]])
def test_what_is_asked_for_without_frames(asked, tmp_path):
    lively(tmp_path / "bundle")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "bundle"), *asked])
    assert done.exit_code == 1 and "error: no frames to measure" in done.output and "give --data DATASET" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kitti", "kitti_occle", "nuscenes"])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_shipped_bundle_on_simulated_streets(name, engine, tmp_path):
    pytest.importorskip(engine, reason=f"{engine} is not installed: pip install 'occle_ros[engines]'")
    simulate(tmp_path / "streets", name.split("_")[0], drives=1, frames=8, seed=9100, scale=0.5, workers=1)
    _agrees(name, engine, tmp_path / "streets", list_scenes(tmp_path / "streets")[0], 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "scene"),
    [("kitti", "semantickitti", "08"), ("kitti_occle", "semantickitti", "08"), ("nuscenes", "nuscenes", "")],
)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_shipped_bundle_on_real_frames(name, folder, scene, engine, real_data):
    pytest.importorskip(engine, reason=f"{engine} is not installed: pip install 'occle_ros[engines]'")
    _agrees(name, engine, real_data / folder, scene or list_scenes(real_data / folder)[0], 10)


@pytest.mark.slow
@pytest.mark.parametrize("rig", ["kitti", "nuscenes"])
def test_the_shipped_bundle_in_int8_on_other_streets_than_it_was_quantised_by(rig, tmp_path):
    pytest.importorskip("nncf", reason="nncf is not installed: pip install 'occle_ros[int8]'")
    bundle = shutil.copytree(SHIPPED / rig, tmp_path / "bundle")
    spec, _, _ = load_bundle(bundle)

    def frames(seed):
        simulate(tmp_path / str(seed), rig, drives=1, frames=8, seed=seed, scale=0.5, workers=1)
        return list(frames_of([open_dataset(tmp_path / str(seed))], spec, 8))

    write_int8(bundle, frames(9200), print)
    _, parity = check(bundle, "openvino", "int8", frames(9100), print)
    assert parity.occupied > 10_000 and parity.passes("int8"), parity


def _agrees(name, engine, data, scene, count):
    spec, _, _ = load_bundle(SHIPPED / name)
    frames = list(frames_of([open_dataset(data, scene=scene)], spec, count))
    _, parity = check(SHIPPED / name, engine, "fp32", frames, print)
    assert parity.frames >= 1 and parity.occupied > 10_000, parity
    assert parity.passes("fp32"), parity
