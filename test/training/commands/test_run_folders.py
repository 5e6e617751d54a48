# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Run folders as a user meets them: what a training writes, resuming, stopping by a signal, listing and comparing."""

import csv
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from forked_python import ForkedPython, run_python
from occle_train.cli import app
from occle_train.loop.training_log import TIMES
from occle_train.minkocc.config import FitConfig
from occle_train.streets import simulate
from typer.testing import CliRunner

from occle_core.bundle import load_bundle, read_spec

LEARNS = ("--size", "tiny", "--set", "learning_rate=0.01", "--threads", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def data(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "streets").symlink_to(simulated("kitti"))
    simulate(folder / "others", "kitti", drives=1, frames=2, seed=6, scale=0.1, workers=1)
    return folder


def run(*arguments):
    """A command in this process. Returns its exit code and what it printed, on one line."""
    done = CliRunner().invoke(app, [str(word) for word in arguments])
    return done.exit_code, " ".join(done.output.split())


def rows(folder):
    """log.csv without times and memory, which no two runs share."""
    with (folder / "log.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A folder with two finished runs, the second with a validation."""
    place = tmp_path_factory.mktemp("place")
    before = Path.cwd()
    os.chdir(place)
    try:
        code, said = run("fit", "--data", data / "streets", "--steps", 24, *LEARNS)
        assert code == 0, said
        second = ("--validation", data / "others", "--validate-every", 10, "--seed", 1, "--bundle", "out/bundle")
        code, said_2 = run("fit", "--data", data / "streets", "--steps", 24, *LEARNS, *second)
        assert code == 0, said_2
    finally:
        os.chdir(before)
    return place, said, said_2


def test_every_run_has_a_folder_of_its_own_with_all_that_repeats_it(finished):
    place, said, _ = finished
    assert sorted(folder.name for folder in (place / "runs").iterdir()) == ["minkocc-001", "minkocc-002"]
    record = yaml.safe_load((place / "runs/minkocc-001/run.yaml").read_text())
    assert FitConfig.model_validate(record["settings"]).learning_rate == 0.01
    assert record["settings"].keys() == FitConfig.model_fields.keys()  # resolved: defaults too
    assert record["options"]["size"] == "tiny" and Path(*record["options"]["data"]).is_absolute()
    assert {"revision", "python", "cores", "packages", "date", "command"} <= record["environment"].keys()
    assert "training: IoU" in said and "wrote runs/minkocc-001/last" in said
    log = rows(place / "runs/minkocc-001")
    assert len(log) == 24 and {"learning_rate", "gradient_norm", "total"} <= log[0].keys()
    assert float(log[0]["learning_rate"]) < float(log[6]["learning_rate"]) > float(log[-1]["learning_rate"])


def test_validation_is_logged_and_the_best_bundle_is_kept(finished):
    place, _, said = finished
    folder = place / "runs/minkocc-002"
    with (folder / "validation.csv").open() as file:
        scores = [(int(row["step"]), float(row["miou"])) for row in csv.DictReader(file)]
    assert [step for step, _ in scores] == [10, 20, 24]
    best = read_spec(folder / "best").provenance["validation"]
    assert (best["step"], round(best["miou"], 5)) == max(scores, key=lambda pair: (pair[1], -pair[0]))
    assert load_bundle(place / "out/bundle")[2] == load_bundle(folder / "best")[2]  # the same bundle
    assert "validation: IoU" in said and len(list(folder.glob("validation-*.jpg"))) == 2  # of two frames


def test_the_report_is_one_file(finished):
    text = (finished[0] / "runs/minkocc-002/report.html").read_text()
    assert text.count("src='data:image/") == 3 and not re.search(r"(src|href)='(?!data:)", text)
    for part in ("Learning curve", "Scores on 2 validation frames", "Frames beside their truth", "learning_rate: 0.01", "revision"):
        assert part in text, part


def test_list_compare_and_bundle(finished, tmp_path):
    runs = finished[0] / "runs"
    code, said = run("list", runs)
    assert code == 0 and said.count("24 of 24") == 2 and "minkocc-002" in said
    code, said = run("compare", runs / "minkocc-001", runs / "minkocc-002")
    assert code == 0 and re.search(r"seed 0 1\b", said) and "mIoU" in said and "learning_rate" not in said
    code, said = run("bundle", runs / "minkocc-001", "--out", tmp_path / "average")
    assert code == 0 and "averaged weights of 24 steps" in said
    assert run("bundle", runs / "minkocc-001" / "checkpoint.pt", "--out", tmp_path / "raw", "--raw")[0] == 0
    spec, average, _ = load_bundle(tmp_path / "average")
    saved = torch.load(runs / "minkocc-001" / "checkpoint.pt", weights_only=True)
    raw = load_bundle(tmp_path / "raw")[1].state_dict()
    assert all(torch.allclose(raw[name], saved["network"][name], atol=2e-3, rtol=2e-3) for name in raw if "num_batches" not in name)
    assert any(not torch.allclose(raw[name], value, atol=2e-3) for name, value in average.state_dict().items())
    assert spec.provenance["data"]["frames"] == 2


def test_an_old_run_is_resumed_by_name_only(finished, data):
    folder = finished[0] / "runs/minkocc-001"
    code, said = run("fit", "--data", data / "streets", "--out", folder, "--steps", 24, *LEARNS)
    assert code == 1 and f"holds a run already; resume it with --resume {folder}" in said
    before = rows(folder)
    code, said = run("fit", "--resume", folder)
    assert code == 0 and "already finished, 24 steps" in said and rows(folder) == before
    for change, named in (
        (("--seed", 9), "fit.seed was 0, is 9"),
        (("--data", data / "others"), "data.files was"),
        (("--start-from", "kitti"), "started_from was not set"),
        (("--set", "batch_size=1"), "fit.batch_size was 2, is 1"),
    ):
        code, said = run("fit", "--resume", folder, *change)
        assert code == 1 and named in said and "another configuration" in said, said
    code, said = run("fit-occle", "--resume", folder)
    assert code == 1 and "is a run of occle-train fit; resume it with that command" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_writes_a_bundle_and_prints_the_command_that_resumes(finished, data, tmp_path, number, code):
    command = ["-m", "occle_train.cli", "fit", "--data", data / "streets", "--steps", "24", *LEARNS, "--set", "num_workers=1"]
    errors = tmp_path / "errors"
    stopped = ForkedPython(command, Path(os.devnull), errors, cwd=tmp_path, before=os.setsid)
    folder, end = tmp_path / "runs/minkocc-001", time.monotonic() + 120
    while time.monotonic() < end and (not (folder / "log.csv").exists() or len((folder / "log.csv").read_text().splitlines()) < 4):
        time.sleep(0.02)
    os.killpg(stopped.pid, number)  # as a terminal does: to the loader process as well
    assert stopped.wait(60) == code, errors.read_text()
    said, line = errors.read_text().splitlines()
    assert said == "stopping after this step; Ctrl-C again: at once"
    found = re.fullmatch(
        r"stopped at step (\d+) of 24; the bundle of the weights until now is (\S+); resume with: occle-train (.+)", line
    )
    assert found and 0 < int(found[1]) < 24, line
    load_bundle(tmp_path / found[2])
    if number == signal.SIGTERM:
        return  # a run stopped by either is resumed in the same way
    again = run_python(["-m", "occle_train.cli", *found[3].split()], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"resuming at step {found[1]} of 24" in again.stdout
    assert rows(folder) == rows(finished[0] / "runs/minkocc-001")  # the curve of a run that was not stopped


def test_a_network_that_predicts_nothing_is_an_error_and_no_bundle(data, tmp_path):
    still = ("--set", "learning_rate=1e-12", "--size", "tiny", "--threads", 1)
    arguments = ("fit", "--data", data / "streets", "--steps", 2, *still, "--out", tmp_path / "o", "--bundle", tmp_path / "b")
    code, said = run(*arguments, "--validation", data / "others")
    assert code == 1 and "predicts no occupied cell on its own training frames" in said and "train longer" in said
    assert not (tmp_path / "b").exists() and not (tmp_path / "o" / "last").exists() and not (tmp_path / "o" / "best").exists()
    assert (tmp_path / "o" / "curve.png").exists()


def test_a_failed_start_leaves_no_folder(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = run("fit", "--data", data / "streets", "--config", "minkocc_10")
    assert code == 1 and "needs 2D labels" in said and not list((tmp_path / "runs").iterdir())


def test_a_time_limit_sets_the_steps_and_ends_the_schedule(data, tmp_path):
    began = time.monotonic()
    code, said = run("fit", "--data", data / "streets", "--max-minutes", 0.15, *LEARNS, "--out", tmp_path / "o")
    assert time.monotonic() - began < 120
    planned = re.search(r"0\.15 minutes are enough for about (\d+) steps", said)
    assert planned and (code == 0 or "predicts no occupied cell" in said), said
    log = rows(tmp_path / "o")
    assert 1 <= len(log) <= int(planned[1])
    if len(log) > 8:
        assert float(log[-1]["learning_rate"]) < 0.3 * max(float(row["learning_rate"]) for row in log)
