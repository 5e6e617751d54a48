# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The label-efficiency experiment: its report, and the whole of it in miniature."""

from dataclasses import replace

import numpy as np
import pytest
from occle_train.evaluation.markdown_tables import class_table, percent, resolution_table
from occle_train.experiments.label_efficiency import experiment as label_efficiency
from occle_train.experiments.label_efficiency import presets as label_scales
from occle_train.experiments.label_efficiency.presets import FULL, PRESETS, SMALL, Streets
from occle_train.experiments.label_efficiency.report import write_report

from occle_core import taxonomy

CLASSES = taxonomy.load("occ3d_nuscenes")


def scores(miou):
    per_class = [miou] * 16 + [None]
    return {
        "occ3d": {"miou": miou, "iou": 0.5, "per_class": per_class},
        "rayiou": {"rayiou": miou / 2},
        "milliseconds": {"prepare": 3.0, "voxels": 4.4},
    }


def rows(**mious):
    found = {key: scores(miou) for key, miou in mious.items()}
    return {s.key: (s.title, s.alpha, s.finer, found.get(s.key)) for s in label_efficiency.SETTINGS}


def test_table_1_has_a_column_per_class_and_a_row_per_network():
    lines = class_table([("ours", scores(0.25))], CLASSES).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(line) for line in cells} == {6 + 17}
    assert cells[2][:3] == ["ours", "12.50", "25.00"] and cells[2][4:6] == ["50.00", "7"] and cells[2][-1] == "-"
    assert cells[0][6:9] == ["others", "barrier", "bicycle"]


def test_table_2_says_what_was_not_run():
    text = resolution_table([(0.4, 1.0, scores(0.3)), (0.1, 0.1, None)])
    assert "| 0.4 | 100 | 7 | 30.00 | 15.00 |" in text and "| 0.1 | 10 | not run | not run | not run |" in text
    assert percent(float("nan")) == "-"


def test_the_report_compares_with_what_was_wanted():
    facts = {"date": "today", "settings": "full,few", "device": "cpu", "threads": 1, "torch": "2"}
    good = write_report(SMALL, rows(full=0.40, few=0.20, recipe=0.32, none=0.1), facts, CLASSES)
    assert "0.800 | >= 0.75 (met)" in good and "1.600 | >= 1.2 (met)" in good and "not run" in good and "| 0.2 | 10 |" in good
    assert "without lifted labels" not in good and "--settings full,few`" in good
    bad = write_report(SMALL, rows(full=0.40, few=0.28, recipe=0.29, none=0.3, rendered=0.25, recipe_half=0.3), facts, CLASSES)
    assert bad.count("(missed)") == 3 and "without lifted labels" in bad
    with pytest.raises(ValueError, match="recipe"):
        write_report(SMALL, rows(full=0.4, few=0.2, none=0.1), facts, CLASSES)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_all_settings_of_a_preset_can_be_built_and_train_on_other_streets_than_they_are_scored_on(preset):
    for setting in label_efficiency.SETTINGS:
        assert preset.spec(setting.finer).grid.resolution == pytest.approx(preset.grid.resolution / setting.finer)
    assert preset.streets["train"].seed != preset.streets["val"].seed
    assert set(preset.settings) <= {setting.key for setting in label_efficiency.SETTINGS}
    assert preset.recipe.lift_weight > 0
    assert preset.with_steps(7).fit.steps == 7 and preset.fit.recipe is None
    assert FULL.fit.steps > SMALL.fit.steps


@pytest.mark.slow
def test_the_whole_experiment_in_miniature_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    streets = {"train": Streets(2, 3, 1, 0.06), "val": Streets(1, 2, 9, 0.06)}
    fit = SMALL.fit.model_copy(update={"steps": 4, "warmup_steps": 1, "checkpoint_every": 2, "batch_size": 1})
    monkeypatch.setitem(label_scales.PRESETS, "small", replace(SMALL, streets=streets, fit=fit))
    arguments = ["--preset", "small", "--out", str(tmp_path / "out"), "--report", str(tmp_path / "docs" / "report.md")]
    arguments += ["--threads", "1", "--workers", "1", "--device", "cpu"]
    assert label_efficiency.main([*arguments, "--settings", "few"]) == 0
    assert "no report" in capsys.readouterr().out
    assert label_efficiency.main(arguments) == 0
    text = (tmp_path / "docs" / "report.md").read_text()
    assert "10 % + recipe" in text and "0.75" in text
    for name in ("curves.png", "views.jpg", "maps.jpg"):
        assert (tmp_path / "docs" / "images" / f"label_efficiency_{name}").stat().st_size > 5000
    weights = {p: p.read_bytes() for p in (tmp_path / "out").rglob("weights.safetensors")}
    assert len(weights) == 4
    capsys.readouterr()
    assert label_efficiency.main(arguments) == 0
    assert "step" not in capsys.readouterr().out and (tmp_path / "docs" / "report.md").read_text() == text
    assert all(np.array_equal(p.read_bytes(), content) for p, content in weights.items())
