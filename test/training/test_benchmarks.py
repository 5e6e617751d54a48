# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The benchmarks run by hand; that each of them still finds what it imports is checked here."""

import json
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import cv2
import pytest
import torch
from lively import lively, street
from occle_train.commands.evaluate import evaluate

from occle_core.bundle import find_bundle, load_bundle
from occle_core.engines.torch_engine import TorchEngine
from occle_core.networks.minkocc.inputs import prepare
from occle_core.taxonomy import load as load_taxonomy

ROOT = Path(__file__).parents[2]
MODULES = sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in (ROOT / "benchmark").rglob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_it_imports(name):
    assert import_module(name.removesuffix(".__init__")).__doc__


def test_the_benchmark_of_a_gpu_runs(tmp_path, capsys):
    """On the CPU, with the smallest networks: every section and file is there, and what cannot run here says why."""
    from benchmark.gpu.__main__ import main

    assert main(["--device", "cpu", "--tiny", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["frames"] == "kitti: made up" and "no GPU" in found["machine"]
    networks = {(row["network"], row["engine"]): row for row in found["networks"]}
    assert "needs an NVIDIA GPU" in networks.pop(("tiny", "torch_graph fp32"))["why"]
    for row in [*networks.values(), *found["node"], *found["training"]]:
        assert "why" not in row and row["operations"] > 100, row
    assert {"prepare", "convert", "markers"} <= found["node"][0]["stages, ms"].keys()
    assert found["node"][0]["image"] == "(320, 192)" and found["node"][0]["CPU, ms a frame"] > 0
    assert [row["precision"] for row in found["training"]] == ["fp32", "bf16"]
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"## {name}" in page for name in ("networks", "node", "training")) and "| OccLE tiny | torch fp32 |" in page
    assert "gpu.md" in capsys.readouterr().out


def test_a_row_that_fails_or_is_too_late_costs_no_other(tmp_path):
    from benchmark.gpu.report import Report

    report = Report(tmp_path, minutes=1)
    report.measure("networks", {"network": "one"}, lambda: 1 / 0)
    report.measure("networks", {"network": "two"}, lambda: {"p50": 1.23456})
    report.began -= 61
    report.measure("networks", {"network": "three"}, lambda: pytest.fail("it began"))
    rows = json.loads((tmp_path / "gpu.json").read_text())["networks"]
    assert "ZeroDivisionError" in rows[0]["why"] and rows[1]["p50"] == 1.23456 and "1 minutes are over" in rows[2]["why"]
    assert "| two |" in (tmp_path / "gpu.md").read_text() and "1.235" in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_a_row_that_hangs_ends_the_command_and_costs_no_other(tmp_path):
    code = f"""
import sys, time
from benchmark.gpu import __main__ as gpu, networks, pipeline
gpu.GRACE = 0.0
networks.measure_networks = lambda report, *more: [report.measure("networks", {{"n": n}}, lambda: {{}}) for n in (1, 2)]
pipeline.measure_node = lambda report, *more: report.measure("node", {{}}, lambda: time.sleep(60))
gpu.main(["--device", "cpu", "--tiny", "--minutes", "0.03", "--out", {str(tmp_path)!r}])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "most recent call first" in ended.stderr
    assert len(json.loads((tmp_path / "gpu.json").read_text())["networks"]) == 2


@pytest.mark.parametrize("words", [["--device", "cpu"], ["--only", "speed", "--device", "cpu", "--tiny"], []])
def test_what_cannot_be_measured_is_refused(words, capsys, monkeypatch):
    from benchmark.gpu.__main__ import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().err
    assert "use --tiny" in said or "no section speed" in said or "finds no GPU" in said


def test_the_network_on_spconv_says_the_same(tmp_path):
    pytest.importorskip("spconv", reason="spconv is not installed")
    from benchmark.sparse.backends import compare_backends, use_spconv

    lively(tmp_path / "bundle")
    spec, network, _ = load_bundle(tmp_path / "bundle")
    engine = TorchEngine(spec, network)
    inputs = [prepare(street(spec, 0, 2000), spec.voxel_grid, spec.network)]
    entries = {"torch": (engine, nullcontext), "spconv": (engine, lambda: use_spconv(engine.network)), "other": "not installed"}
    ours, theirs, other = compare_backends(entries, inputs, 1)
    assert (
        ours["ratio"] == 1
        and theirs["different"] <= 4
        and theirs["ms"] > 0
        and other == {"backend": "other", "why": "not installed"}
    )
    assert not any("forward" in vars(module) for module in engine.network.modules())


def test_chosen_frames_are_compared_with_those_at_even_distances():
    from benchmark.training.choose_frames import interval, table

    assert interval(10, 2, 0.5) == [2, 7] and interval(160, 16, 0.125) == [10 * k + 1 for k in range(16)]
    rows = [{"seed": 0, "way": "first", "share": 0.0, "iou": 0.4, "miou": 0.2}]
    for seed, gain in ((0, 0.01), (1, 0.03)):
        rows.append({"seed": seed, "way": "interval", "share": 0.05, "iou": 0.5, "miou": 0.3})
        rows.append({"seed": seed, "way": "choose", "share": 0.05, "iou": 0.52, "miou": 0.3 + gain})
    assert table(rows, 160).splitlines()[2:] == [
        "| none: the first network | 40.0 | 40.0 | 20.0 | 20.0 | |", "| 5 %: 8 | 50.0 | 52.0 | 30.0 | 32.0 | +2.0 ± 1.0 |"
    ]  # fmt: skip


def test_the_page_of_the_networks_says_what_evaluate_says(simulated, tmp_path):
    """In miniature: two simulated frames, no real ones, no engine timed."""
    from benchmark.model_page.__main__ import main
    from benchmark.model_page.models import PICTURE_WIDTH

    page, out, json_file = tmp_path / "page" / "models.md", tmp_path / "out", tmp_path / "scores.json"
    out.mkdir()
    (out / "validation_kitti").symlink_to(simulated("kitti"))
    words = ["--bundles", "kitti", "--engines", "", "--real", str(tmp_path / "none"), "--page", str(page), "--out", str(out)]
    assert main(words) == 0
    evaluate(find_bundle("kitti"), simulated("kitti"), degrade="images", json_file=json_file, threads=1)
    scores = json.loads(json_file.read_text())["grid"]
    text = page.read_text("utf-8")
    rows = {line.split(" | ")[0].strip("| "): line.strip(" |").split(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert rows["IoU, %"] == ["IoU, %", "simulated", "simulated, no images"]
    assert rows["occupied against free"][2] == f"{100 * scores['iou']:.2f}"
    assert rows["road"][2] == f"{100 * scores['per_class'][8]:.2f}" and rows["road"][1] != rows["road"][2]
    assert rows["[kitti](#kitti)"][-1] == f"{100 * scores['iou']:.1f} / {100 * scores['miou_present']:.1f}"
    assert (
        "--rig kitti --drives 4 --frames 60 --every 10 --seed 9001" in text
        and "## Time of a frame" not in text
        and "in all known cells" in " ".join(text.split())
    )
    picture = cv2.imread(str(page.parent / "images" / "model_kitti.jpg"))
    assert picture.shape[1] == PICTURE_WIDTH and picture.std() > 20
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "!"))) <= 120


def test_the_page_of_the_networks_says_why_an_engine_has_no_time(tmp_path):
    from benchmark.model_page.models import Model, milliseconds
    from benchmark.model_page.text import latency_table, refusals

    why = milliseconds("kitti_occle", "native", tmp_path, 1)
    assert isinstance(why, str) and "native" in why
    spec, _, bundle_id = load_bundle(find_bundle("kitti_occle"))
    classes = load_taxonomy(spec.taxonomy)
    model = Model("kitti_occle", "kitti", spec, bundle_id, classes, 1_200_000, 2_000_000, {}, {"torch": (12.3, 45.6)})
    model.times["native"] = why
    assert latency_table([model]).splitlines()[-1] == "| kitti_occle | 12 / 46 | - |"
    assert refusals(model) == [f"native, kitti_occle: {why}."]
