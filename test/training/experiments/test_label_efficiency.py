# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The label-efficiency experiment: its report, and the whole of it in miniature."""

from dataclasses import replace

import numpy as np
import pytest
from occle_train.evaluation.markdown_tables import class_table, percent, resolution_table, spread
from occle_train.experiments.label_efficiency import experiment as label_efficiency
from occle_train.experiments.label_efficiency import presets as label_scales
from occle_train.experiments.label_efficiency.presets import FULL, PRESETS, SMALL, Streets
from occle_train.experiments.label_efficiency.report import Row, ratios, write_report
from occle_train.experiments.label_efficiency.settings import SETTINGS
from occle_train.experiments.label_efficiency.shares import write_shares
from occle_train.minkocc.recipe import RecipeSamples
from rooms import Rooms

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
    """Rows of the report: a number is of seed 0, several are of seeds 0, 1, ..."""
    found = {key: dict(enumerate(map(scores, np.atleast_1d(miou).tolist()))) for key, miou in mious.items()}
    return {s.key: Row(s.title, s.alpha, s.finer, found.get(s.key, {})) for s in SETTINGS}


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


FACTS = {"date": "today", "settings": "full,few", "seeds": "0,1", "drawn": 0, "device": "cpu", "threads": 1, "torch": "2"}


def test_the_report_compares_with_what_was_wanted():
    good = write_report(SMALL, rows(full=0.40, few=0.20, recipe=0.37, none=0.1, paper=0.2), FACTS, CLASSES)
    assert (
        "0.925 | 1 | >= 0.90 (met)" in good and "1.850 | 1 | >= 1.20 (met)" in good and "not run" in good and "| 0.2 | 10 |" in good
    )
    assert "0.500 | 1 | - | 33.43 / 44.85 = 0.745" in good and "10.00 | 1 | between 0 and the recipe (met)" in good
    assert "without lifted labels" not in good and "--settings full,few --seeds 0,1`" in good.replace("\n", " ")
    bad = write_report(SMALL, rows(full=0.40, few=0.28, recipe=0.29, none=0.3, rendered=0.25, recipe_half=0.3), FACTS, CLASSES)
    assert bad.count("(missed)") == 3 and "without lifted labels" in bad
    with pytest.raises(ValueError, match="recipe"):
        write_report(SMALL, rows(full=0.4, few=0.2, none=0.1), FACTS, CLASSES)


def test_the_report_shows_mean_and_spread_over_the_seeds_that_have_run():
    found = rows(full=[0.40, 0.50], few=[0.20, 0.20], recipe=[0.30, 0.45, 0.33], self_training=0.36)
    text = write_report(SMALL, found, FACTS, CLASSES)
    # Mean 36, deviations -6, 9, -3, of which the squares' sum is 126, halved 63.
    assert "| 10 %, our recipe | 0, 1, 2 | 36.00 ± 7.94 |" in text and "| 100 %, voxel labels | 0, 1 | 45.00 ± 7.07 |" in text
    assert ratios(found["recipe"], found["full"]) == pytest.approx([0.75, 0.9])  # seed by seed
    assert "| 0.825 ± 0.106 | 2 | >= 0.90 (missed) |" in text
    assert "One seed only, so without a spread: 10 %, our recipe and teacher." in text.replace("\n", " ")
    assert spread([0.5]) == "50.00" and "| 10 %, our recipe | 18.00 | 36.00 |" in text  # the classes' table is of means


def test_the_page_of_shares_has_a_row_for_each_and_its_ratio_to_all_labels():
    found = rows(**{"full": [0.4, 0.5], "recipe": [0.3, 0.45], "recipe-5": [0.2, 0.3]})
    lines = [line for line in write_shares(SMALL, found, FACTS).splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert table[0][:5] == ["100", "200", "scenes", "voxel labels", "0, 1"]
    rest = ["few", "recipe", "paper", "self_training", "pretrained"]
    ten, five, one = (len([row for row in table if row[0] == share]) for share in ("10", "5", "1"))
    assert (ten, five, one) == (2 * len(rest) - 1, len(rest), len(rest))  # the paper's tenth is of frames in any case
    # 0.2 / 0.4 and 0.3 / 0.5
    assert [row[-5:] for row in table if row[:4] == ["5", "10", "single frames", "our recipe"]] == [
        ["0, 1", "25.00 ± 7.07", "50.00 ± 0.00", "12.50 ± 3.54", "0.550 ± 0.071"]
    ]
    assert [row[4:] for row in table if row[0] == "1"] == [["-", *["not run"] * 4]] * 5
    assert "5 % of the frames" not in write_report(SMALL, found, FACTS, CLASSES)  # it stands on that page alone


def test_a_share_of_the_frames_is_what_the_settings_of_shares_train_on(tmp_path):
    """Of 200 frames in 20 scenes 1 % is two: a share of the scenes would be a whole one, ten frames."""
    experiment = label_efficiency.LabelEfficiencyExperiment(SMALL, tmp_path, "cpu", 1)
    by_key = {setting.key: setting for setting in SETTINGS}
    scenes = [Rooms(f"scene-{number:04d}", 10) for number in range(20)]
    drawn = {}
    for key in ("few-10", "few-5", "few-1", "self_training-1", "paper", "paper-1", "few"):
        recipe = experiment.config(by_key[key], 0).recipe
        samples = RecipeSamples(scenes, SMALL.grid, SMALL.network, recipe, None, tmp_path)
        drawn[key] = samples.drawn
        assert recipe.alpha == by_key[key].alpha and (recipe.self_training is not None) == ("self" in key)
        assert len(samples.warm) == {"10": 20, "5": 10, "1": 2}.get(key.rpartition("-")[2], 20) and len(samples) == 200
    assert drawn["few-1"] == drawn["self_training-1"] == drawn["paper-1"] < drawn["few-5"] < drawn["few-10"] == drawn["paper"]
    assert len({name.partition("/")[0] for name in drawn["few-5"]}) > 2 == len(drawn["few"])


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_all_settings_of_a_preset_can_be_built_and_train_on_other_streets_than_they_are_scored_on(preset):
    for setting in SETTINGS:
        assert preset.spec(setting.finer).grid.resolution == pytest.approx(preset.grid.resolution / setting.finer)
    assert preset.streets["train"].seed != preset.streets["val"].seed
    assert set(preset.settings) <= {setting.key for setting in SETTINGS}
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
    arguments += ["--seeds", "0,3"]
    assert label_efficiency.main([*arguments, "--finished"]) == 0 and not list((tmp_path / "out").rglob("weights.safetensors"))
    assert label_efficiency.main([*arguments, "--settings", "few"]) == 0
    assert "it needs the settings full, recipe" in capsys.readouterr().out and not (tmp_path / "docs").exists()
    assert label_efficiency.main([*arguments, "--settings", "full,few-5"]) == 0
    assert "| 5 |" in (tmp_path / "docs" / "label_shares.md").read_text() and not (tmp_path / "docs" / "report.md").exists()
    arguments += ["--settings", "full,few,recipe,self_training,pretrained"]
    assert label_efficiency.main(arguments) == 0
    text = (tmp_path / "docs" / "report.md").read_text()
    assert "10 %, our recipe" in text and "0, 3" in text
    for name in ("curves.png", "views.jpg", "maps.jpg"):
        assert (tmp_path / "docs" / "images" / f"label_efficiency_{name}").stat().st_size > 5000
    weights = {p: p.read_bytes() for p in (tmp_path / "out").rglob("weights.safetensors")}
    assert len(weights) == 12 and {p.parents[2].name for p in weights} == {"seed_0", "seed_3"}
    capsys.readouterr()
    assert label_efficiency.main(arguments) == 0
    assert "step" not in capsys.readouterr().out and (tmp_path / "docs" / "report.md").read_text() == text
    assert all(np.array_equal(p.read_bytes(), content) for p, content in weights.items())
