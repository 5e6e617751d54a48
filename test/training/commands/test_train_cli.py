# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train` as a user calls it: fit, evaluate, in processes of their own, and its answers to bad input."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from forked_python import run_python
from lively import save_untrained
from occle_train.cli import app
from typer.testing import CliRunner

from occle_core import build_cache as cache
from occle_core.bundle import load_bundle
from occle_core.errors import EngineError

LEARNS = ("--set", "learning_rate=0.01")
"""With it a tiny network predicts something after two dozen steps."""


def occle_train(*arguments):
    return run_python(["-m", "occle_train.cli", *map(str, arguments)])


@pytest.fixture(scope="module", params=["kitti", "nuscenes"])
def streets(request, simulated):
    return request.param, simulated(request.param)


def test_fit_and_evaluate(streets, tmp_path):
    rig, data = streets
    fit = ("fit", "--data", data, "--bundle", tmp_path / "bundle", "--out", tmp_path / "fit", "--size", "tiny", *LEARNS)
    done = occle_train(*fit, "--steps", 24, "--threads", 1)
    assert done.returncode == 0, done.stderr
    spec, _, _ = load_bundle(tmp_path / "bundle")
    assert spec.name == f"minkocc-tiny-{rig}"  # the rig is found by the layout
    assert spec.provenance["data"]["frames"] == 2 and spec.provenance["fit"]["steps"] == 24
    assert {file.name for file in (tmp_path / "fit").iterdir()} >= {
        "run.yaml",
        "log.csv",
        "curve.png",
        "report.html",
        "scores.json",
        "last",
    }
    done = occle_train("evaluate", "--bundle", tmp_path / "bundle", "--data", data, "--json", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["frames"] == 2 and 0 < scores["scan"]["iou"] < 1 and 0 <= scores["grid"]["iou"] <= 1
    assert ("rayiou" in scores) == (rig == "nuscenes") and ("official" in scores) == (rig == "kitti")
    assert "road" in done.stdout or "driveable" in done.stdout


def test_label_fit_occle_evaluate(streets, tmp_path):
    rig, data = streets
    if rig == "nuscenes":
        pytest.skip("OccLE's command is tried on one rig")
    done = occle_train("label", "--data", data, "--out", tmp_path / "labels", "--simulated")
    assert done.returncode == 0, done.stderr
    fit = ("fit-occle", "--data", data, "--labels", tmp_path / "labels", "--bundle", tmp_path / "bundle", "--out", tmp_path / "fit")
    done = occle_train(*fit, "--size", "tiny", "--steps", 2, "--threads", 1, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    spec, _, _ = load_bundle(tmp_path / "bundle")
    assert spec.network.kind == "occle" and spec.provenance["labels"]["voxel_labels"]["frames"] == 1
    assert spec.provenance["fit"]["confidence_threshold"] == 0.9 and "degraded" in spec.provenance["labels"]["pseudo_labels"]
    assert {file.parent.name for file in (tmp_path / "fit").glob("*/log.csv")} == {"semantic", "teacher", "student", "fusion"}
    done = occle_train("evaluate", "--bundle", tmp_path / "bundle", "--data", data)
    assert done.returncode == 0, done.stderr
    tune = ("--bundle", tmp_path / "tuned", "--out", tmp_path / "tune", "--start-from", tmp_path / "bundle", "--steps", 1)
    done = occle_train(*fit[:5], *tune, "--threads", 1, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    tuned = load_bundle(tmp_path / "tuned")[0]
    assert tuned.network == spec.network and len(tuned.provenance["started_from"]) == 12


@pytest.mark.slow
def test_label_and_the_recipe_on_two_processes(streets, tmp_path):
    rig, data = streets
    if rig == "kitti":
        pytest.skip("the recipe's layout is nuScenes'")
    done = occle_train("label", "--data", data, "--out", tmp_path / "labels", "--simulated")
    assert done.returncode == 0, done.stderr
    assert "12 images labelled, 0 had labels" in done.stdout
    recipe = {"alpha": 0.1, "warmup_fraction": 0.5, "num_views": 1, "view_width": 32, "view_height": 18, "shader_channels": 8}
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({"epochs": 40, "batch_size": 2, "warmup_steps": 1, "learning_rate": 0.01, "recipe": recipe})
    )
    fit = ("fit", "--data", data, "--bundle", tmp_path / "bundle", "--out", tmp_path / "fit", "--rig", rig, "--size", "tiny")
    done = occle_train(
        *fit, "--config", tmp_path / "recipe.yaml", "--labels", tmp_path / "labels", "--processes", 2, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    provenance = load_bundle(tmp_path / "bundle")[0].provenance
    assert provenance["labels"]["voxel_labels"]["scenes"] == ["scene-0000"] and provenance["fit"]["steps"] == 40
    assert "degraded" in provenance["labels"]["pseudo_labels"]
    assert (tmp_path / "fit" / "log.csv").read_text().startswith("step,semantic,occupancy,pseudo,total,learning_rate,")


def test_a_model_that_cannot_be_loaded_is_one_clear_line(simulated, tmp_path):
    pytest.importorskip("transformers", reason="pip install transformers")
    models = ("--detector", tmp_path / "none", "--segmenter", tmp_path / "none")
    done = occle_train("label", "--data", simulated("kitti"), "--out", tmp_path / "labels", *models)
    assert done.returncode == 1 and "Traceback" not in done.stderr and str(tmp_path / "none") in done.stderr, done.stderr
    assert not (tmp_path / "labels").exists()


def test_bad_input_is_one_clear_line_and_a_non_zero_exit(tmp_path):
    save_untrained(tmp_path / "bundle")
    cases = [
        (("evaluate", "--bundle", tmp_path / "none", "--data", tmp_path), "has no bundle.yaml"),
        (("evaluate", "--bundle", tmp_path / "bundle", "--data", tmp_path / "none"), "does not exist"),
        (("fit", "--data", tmp_path / "bundle", "--bundle", tmp_path / "b"), "not a data set"),
        (("evaluate", "--bundle", "kitty", "--data", tmp_path), "shipped are kitti, kitti_occle, nuscenes"),
        (("fit", "--bundle", tmp_path / "b"), "no training data; give --data"),
        (("fit", "--resume", tmp_path), "is no run: it has no run.yaml"),
        (("list", tmp_path), "holds no runs"),
        (("bundle", tmp_path / "bundle", "--out", tmp_path / "b"), "holds no checkpoint.pt"),
    ]
    for arguments, message in cases:
        done = occle_train(*arguments)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "b").exists()


def test_a_truncated_scan_stops_training_and_writes_no_bundle(streets, tmp_path):
    rig, data = streets
    copy = shutil.copytree(data, tmp_path / "data")
    scan = next(iter(sorted(copy.rglob("*.pcd.bin" if rig == "nuscenes" else "velodyne/*.bin"))))
    scan.write_bytes(scan.read_bytes()[:-3])
    fit = ("fit", "--data", copy, "--bundle", tmp_path / "bundle", "--out", tmp_path / "fit", "--size", "tiny", "--steps", 2)
    done = occle_train(*fit)
    assert done.returncode == 1 and scan.name in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_settings_come_from_a_yaml_file_and_unknown_ones_are_refused(tmp_path):
    from occle_train.commands.fit import settings_of

    (tmp_path / "fit.yaml").write_text(yaml.safe_dump({"learning_rate": 0.01, "steps": 7, "recipe": {"alpha": 0.2}}))
    found = settings_of(str(tmp_path / "fit.yaml"), ["recipe.alpha=0.5", "augment.flip_prob=1e-1"], {"batch_size": 4}, seed=3)
    assert (found.learning_rate, found.steps, found.seed, found.batch_size) == (0.01, 7, 3, 4)
    assert found.recipe.alpha == 0.5 and found.augment.flip_prob == 0.1
    (tmp_path / "fit.yaml").write_text("learning_rat: 1")
    with pytest.raises(ValueError, match="learning_rat"):
        settings_of(str(tmp_path / "fit.yaml"), [], {})
    with pytest.raises(ValueError, match=r"--set: recipe\.alpha: .*\(it is 3\)"):
        settings_of(None, ["recipe.alpha=3"], {})
    for key, value, why in (("learning_rate", ".inf", "finite"), ("max_minutes", ".inf", "finite"), ("seed", "-1", "greater than")):
        with pytest.raises(ValueError, match=f"--set: {key}: Input should be (a )?{why}"):
            settings_of(None, [f"{key}={value}"], {})
    with pytest.raises(ValueError, match="--set alpha: give key=value"):
        settings_of(None, ["alpha"], {})


def test_configurations_are_found_by_name_and_by_the_right_command(tmp_path, monkeypatch):
    from occle_train.commands import fit_occle
    from occle_train.commands.fit import settings_of

    monkeypatch.chdir(tmp_path)
    assert settings_of("minkocc_10", [], {}).recipe.alpha == 0.1
    assert fit_occle.settings_of("occle_nuscenes", [], {}).rig == "nuscenes"
    with pytest.raises(
        ValueError, match=r"minkocc_11: no such file, and no shipped .*; there are minkocc_0, minkocc_0_paper, minkocc_10,"
    ):
        settings_of("minkocc_11", [], {})
    with pytest.raises(ValueError, match="of OccLE; train it with occle-train fit-occle"):
        settings_of("occle_nuscenes", [], {})
    with pytest.raises(ValueError, match=r"of MinkOcc; train it with occle-train fit$"):
        fit_occle.settings_of("minkocc_10", [], {})


def test_upsampled_predictions_stay_in_place():
    labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    fine = np.kron(labels, np.ones((2, 2, 2), np.uint8))
    assert all(fine[i, j, k] == labels[i // 2, j // 2, k // 2] for i, j, k in np.ndindex(4, 4, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", r"fit\.yaml cannot be read as YAML"),
        ("- 4", r"fit\.yaml must hold names and values"),
        ("stepps: 4\nbatch_size: 0", r"fit\.yaml: batch_size: .*; stepps: Extra inputs are not permitted \(it is 4\)"),
        ("a1: {b: 1}\na2: 2\na3: 3\na4: 4\na5: 5\na6: 6\na7: [" + "7, " * 99 + "7]", r"a5: .*; and 2 more$"),
        ("recipe: {alpha: 2}", r"fit\.yaml: recipe\.alpha: .*\(it is 2\)"),
        ("\xff\xfe", r"fit\.yaml cannot be read as YAML"),
    ],
)
def test_configurations_that_cannot_be_used_are_one_line(tmp_path, text, message):
    (tmp_path / "fit.yaml").write_bytes(text.encode("latin-1"))
    done = occle_train("fit", "--data", tmp_path, "--bundle", tmp_path / "b", "--config", tmp_path / "fit.yaml")
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search(message, line), line


def test_a_batch_that_processes_cannot_share_says_what_to_set(tmp_path):
    done = occle_train("fit", "--data", tmp_path, "--bundle", tmp_path / "b", "--processes", 3)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "--processes 3: batch_size 2" in line and "multiple of 3" in line


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_untrained(tmp_path / "bundle")
    done = occle_train("evaluate", "--bundle=~/bundle", "--data=~/nowhere")
    assert done.returncode == 1 and f"{tmp_path}/nowhere does not exist" in done.stderr, done.stderr


def test_missing_files_are_listed_before_the_first_step(streets, tmp_path):
    """As after downloading the first of ten parts: the tables list everything."""
    rig, data = streets
    copy = shutil.copytree(data, tmp_path / "data")
    images = sorted(file for file in copy.rglob("*.jpg" if rig == "nuscenes" else "image_2/*.png"))
    for file in images[1:]:
        file.unlink()
    images[0].write_bytes(b"")
    fit = ("fit", "--data", copy, "--bundle", tmp_path / "b", "--out", tmp_path / "o", "--size", "tiny", "--steps", 3)
    for arguments in (fit, ("evaluate", "--bundle", save_tiny(tmp_path / "tiny", rig), "--data", copy)):
        done = occle_train(*arguments)
        assert done.returncode == 1 and not (tmp_path / "o" / "log.csv").exists()
        assert f"{len(images)} files are missing or empty, of sequences {'00' if rig == 'kitti' else 'scene-0000'}" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def save_tiny(folder, rig):
    save_untrained(folder, "tiny", rig)
    return folder


def test_an_error_of_a_loader_process_is_one_line(streets, tmp_path):
    rig, data = streets
    copy = shutil.copytree(data, tmp_path / "data")
    scan = next(file for file in sorted(copy.rglob("*.bin")) if file.parent.name in ("velodyne", "LIDAR_TOP"))
    scan.write_bytes(scan.read_bytes()[:-3])
    (tmp_path / "fit.yaml").write_text("num_workers: 1\nsteps: 3\n")
    fit = ("fit", "--data", copy, "--bundle", tmp_path / "b", "--out", tmp_path / "o", "--rig", rig, "--size", "tiny")
    done = occle_train(*fit, "--config", tmp_path / "fit.yaml", "--threads", 1)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {scan} has ") and "truncated" in line


def test_scores_fit_a_pipe_of_80_columns(simulated, tmp_path):
    """Of a Python that was started, and ends, by itself."""
    bundle, data = save_tiny(tmp_path / "tiny", "kitti"), simulated("kitti")
    command = [sys.executable, "-m", "occle_train.cli", "evaluate", "--bundle", bundle, "--data", data, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80 and "…" not in done.stdout


def test_a_dead_loader_process_is_said_with_the_remedy(monkeypatch, capsys):
    from occle_train import cli

    def die(self, context):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...")

    monkeypatch.setattr(cli.TyperGroup, "invoke", die)
    monkeypatch.setattr(sys, "argv", ["occle-train", "simulate"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 1 and "killed by signal" in line and "--shm-size" in line and "num_workers=0" in line


@pytest.mark.parametrize(("rig", "limit"), [("kitti", 3_000), ("kitti", 300_000), ("nuscenes", 100), ("nuscenes", 300_000)])
def test_a_full_disk_while_simulating_is_one_line_and_leaves_nothing(tmp_path, rig, limit):
    """Whichever file meets the limit: image, scan, voxels, tables."""
    command = ["simulate", str(tmp_path / "out"), "--rig", rig, "--frames", "1", "--scale", "0.1", "--workers", "1"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        done = CliRunner().invoke(app, command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 1 and line.startswith("error: the disk is full (") and "free space" in line
    left = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert left == [], left


def test_a_folder_that_must_not_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = occle_train("simulate", tmp_path / "file" / "out", "--frames", 1)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and str(tmp_path / "file") in line


def test_without_a_home_folder_the_remedy_is_said(tmp_path, monkeypatch):
    """A user id that no passwd entry has, as in containers; engines are kept in a cache below the home folder."""
    for name in ("HOME", "OCCLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    with pytest.raises(EngineError, match="set OCCLE_CACHE to a folder"):
        cache.cache_dir()
    monkeypatch.setenv("OCCLE_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="set OCCLE_CACHE to a folder that can be written"):
        cache.cached({"engine": "x"}, lambda folder: None, lambda text: None)
