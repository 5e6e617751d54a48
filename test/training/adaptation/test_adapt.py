# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The adaptation: no label of the recordings is read, bit for bit; it can be stopped and resumed; the commands."""

import json
import shutil

import numpy as np
import pytest
import torch
from occle_train.adaptation.adapt import adapt
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.samples import AdaptSamples
from occle_train.cli import app
from occle_train.data.ray_evidence import RayEvidenceConfig
from occle_train.loop.steps import TrainingHooks
from occle_train.streets import simulate
from rooms import NETWORK
from typer.testing import CliRunner

from occle_core.bundle import load_bundle, save_bundle, spec_for
from occle_core.datasets import DatasetError, open_dataset
from occle_core.geometry.grid import VoxelGrid

LABELS = ("labels", "voxels", "semantic_2")
GRID = VoxelGrid((0, -12.8, -2.0), (64, 64, 16), 0.4)
CONFIG = AdaptConfig(
    steps=1, rounds=2, past_frames=1, future_frames=1, calibration_frames=1, least_precision=0, rays=RayEvidenceConfig(window=1)
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Simulated streets, recordings, and a bundle of random weights that prune little."""
    folder = tmp_path_factory.mktemp("adapt")
    simulate(folder / "both", "kitti", 2, 2, 11, 0.05, 1)
    for number, name in enumerate(("streets", "recorded")):
        sequence = folder / name / "sequences" / f"{number:02d}"
        shutil.copytree(folder / "both" / "sequences" / f"{number:02d}", sequence)
        for scan in (sequence / "velodyne").iterdir():  # a twelfth of the points is enough
            scan.write_bytes(np.fromfile(scan, np.float32).reshape(-1, 4)[::12].tobytes())
            file = sequence / "labels" / f"{scan.stem}.label"
            file.write_bytes(np.fromfile(file, np.uint32)[::12].tobytes())
    torch.manual_seed(0)
    spec = spec_for(NETWORK, GRID, "semantickitti", "rooms")
    network = spec.build()
    with torch.no_grad():
        for head in network.unet.occupancy:
            head.bias.zero_()
        network.head.weight.mul_(20)
    save_bundle(folder / "bundle", spec, network)
    return folder


def run(folders, recorded, out, **hooks):
    spec, network, _ = load_bundle(folders / "bundle")
    samples = AdaptSamples([open_dataset(folders / "streets")], [open_dataset(recorded)], spec, CONFIG, None, out / "cells")
    return adapt(spec, network, samples, CONFIG, out, hooks=TrainingHooks(**hooks)), samples


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, *run(folders, folders / "recorded", out)


def same_run(out, network, whole):
    """The same weights and the same bytes of every target."""
    usual_out, usual, _ = whole
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in usual.state_dict().items())
    written = sorted(file.relative_to(usual_out) for file in usual_out.rglob("*.npz"))
    assert len(written) == 2 + 2 * (2 + 1)  # cells; targets and thresholds of two rounds
    assert all((out / file).read_bytes() == (usual_out / file).read_bytes() for file in written)


def test_no_label_of_the_recordings_is_read(folders, whole, tmp_path):
    recorded = tmp_path / "recorded"
    shutil.copytree(folders / "recorded", recorded)
    for name in LABELS:
        for file in (recorded / "sequences" / "01" / name).iterdir():
            file.write_bytes(bytes(reversed(file.read_bytes())))
    seen = []
    network, _ = run(folders, recorded, tmp_path / "out", on_progress=lambda phase, step, losses: seen.append((phase, step)))
    same_run(tmp_path / "out", network, whole)
    assert seen == [("round-1", 0), ("round-2", 0)]


def test_a_run_without_label_files_that_is_stopped_and_resumed_is_the_same(folders, whole, tmp_path):
    shutil.copytree(folders / "recorded", tmp_path / "recorded", ignore=shutil.ignore_patterns(*LABELS))
    out = tmp_path / "out"
    stops = iter([True])
    run(folders, tmp_path / "recorded", out, should_stop=lambda: next(stops))
    assert (out / "round-1" / "checkpoint.pt").is_file() and not (out / "round-2").exists()
    network, _ = run(folders, tmp_path / "recorded", out)
    same_run(out, network, whole)


def test_half_of_a_batch_is_simulated_and_half_recorded(whole):
    samples = whole[2]
    assert [samples.sample(item, "weak").labelled for item in range(4)] == [True, True, False, False]
    with pytest.raises(ValueError, match="must not be used"):
        samples.truth(3)
    target = samples.sample(3, "weak").target
    assert (target == samples.classes.free).sum() > 200 and ((target != 0) & (target != 255)).sum() > 30


def test_recordings_without_poses_are_refused(folders, tmp_path):
    shutil.copytree(folders / "recorded", tmp_path / "recorded")
    (tmp_path / "recorded" / "sequences" / "01" / "poses.txt").unlink()
    with pytest.raises(DatasetError, match="no poses"):
        run(folders, tmp_path / "recorded", tmp_path / "out")


def test_the_command(folders, tmp_path):
    out = tmp_path / "run"
    options = ["--set", "steps=2", "--set", "rounds=1", "--set", "past_frames=1", "--set", "future_frames=1"]
    command = ["adapt", str(folders / "bundle"), "--data", str(folders / "recorded"), "--out", str(out), *options]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1 and not out.exists()
    done = CliRunner().invoke(app, [*command, "--simulated", str(folders / "streets"), "--bundle", str(tmp_path / "bundle")])
    assert done.exit_code == 0, done.output
    provenance = load_bundle(tmp_path / "bundle")[0].provenance
    assert provenance["labels"]["recorded_frames"] == 2 and provenance["labels"]["voxel_labels"] == "2 simulated frames"
    assert np.isfinite(provenance["free_bias"]) and (out / "report.html").is_file()
    weights = CliRunner().invoke(app, ["bundle", str(out), "--out", str(tmp_path / "again")])
    assert weights.exit_code == 0 and load_bundle(tmp_path / "again")[0].name == "rooms"


def test_the_command_that_ranks_frames_to_label(folders, tmp_path):
    file = tmp_path / "chosen.json"
    command = ["choose", "--bundle", str(folders / "bundle"), "--data", str(folders / "recorded"), "--json", str(file)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    frames = json.loads(file.read_text())["frames"]
    assert sorted((frame["sequence"], frame["frame"]) for frame in frames) == [("01", 0), ("01", 1)]
    assert frames[0]["disagreement"] >= frames[1]["disagreement"] > 0
    assert CliRunner().invoke(app, [*command, "--budget", "1"]).exit_code == 0
    assert json.loads(file.read_text())["frames"] == frames[:1]
