# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's ablation: its report, and the whole of it in miniature."""

import re
from dataclasses import replace

import pytest
from occle_train.data.samples import open_all
from occle_train.experiments.label_efficiency.presets import Streets
from occle_train.experiments.occle_ablation import __main__ as command
from occle_train.experiments.occle_ablation import presets as scales
from occle_train.experiments.occle_ablation import settings
from occle_train.experiments.occle_ablation.claims import Claim
from occle_train.experiments.occle_ablation.presets import PRESETS, SMALL
from occle_train.experiments.occle_ablation.report import write_report
from occle_train.experiments.occle_ablation.settings import (
    ALL,
    BASELINE,
    BRANCHES,
    CONV3D,
    DISTURBED,
    EXTRACTORS,
    FULL,
    LABELS,
    MODULES,
    MORE_KEYS,
    MORE_SETTINGS,
    RATIOS,
    SETTINGS,
    AblationScores,
)
from occle_train.occle.augment import STUDENT as STRONG
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.label_folder import write_missing
from occle_train.streets import simulate

from occle_core import taxonomy

CLASSES = taxonomy.load("semantickitti")
FACTS = {"date": "today", "seeds": "0", "device": "a CPU", "threads": 1, "torch": "2"}


def as_in_the_paper():
    """The paper's own figures as if they were ours."""
    found = AblationScores(latency=dict(settings.PAPER_MS))
    found.settings = {
        setting.key: {"miou": setting.paper[0] / 100, "iou": setting.paper[1] / 100, "per_class": [0.5] * 19}
        for setting in (*SETTINGS, *MORE_SETTINGS)
    }
    found.branches = {branch.key: {"iou": branch.paper / 100} for branch in (*BRANCHES, CONV3D)}
    found.branches[CONV3D.key]["ms"] = settings.PAPER_MS["conv3d"]
    found.extractors = {e.key: {e.part: e.paper / 100, "ms": e.paper_ms} for e in EXTRACTORS}
    found.labels = {key: {part: value / 100 for part, value in paper.items()} for key, (_, paper) in LABELS.items()}
    found.disturbed = {key: {"iou": iou / 100, "miou": miou / 100} for key, (_, iou, miou) in DISTURBED.items()}
    return found


def test_the_papers_figures_agree_with_the_paper():
    text = write_report(SMALL, [as_in_the_paper()], FACTS, CLASSES)
    assert "Unlike the paper" not in text and "not run" not in text
    assert "16.59 / 20.32 = 0.816 (met)" in text
    assert "| all modules | 10 | 16.59 | 16.59 | 40.60 | 40.60 |" in text and "| projection alone | 0 | 0.37 |" in text
    assert (
        "| with alignment | 51.51 | 51.51 | 13.94 | 13.94 |" in text and "| geometric branch with header | 26.1 | 26.08 |" in text
    )


def test_a_disagreement_is_a_sentence_and_what_is_missing_is_said():
    found = as_in_the_paper()
    found.settings[BASELINE.key]["miou"] = 0.2
    found.settings[ALL.key]["miou"] = 0.15
    text = write_report(SMALL, [found], FACTS, CLASSES)
    assert (
        '**Unlike the paper**, all modules (mIoU) does not beat "baseline: voxel annotations alone": 15.00 against 20.00 here'
        in text
    )
    assert "(missed)" in text
    assert "| MobileNet | 6.1 | 6.10 | 48.76 | 48.76 |" in write_report(SMALL, [as_in_the_paper()], FACTS, CLASSES)
    empty = write_report(SMALL, [AblationScores()], FACTS, CLASSES)
    assert empty.count("not run") > 40 and "Unlike" not in empty


def test_seeds_are_a_mean_and_a_spread():
    found, other = as_in_the_paper(), as_in_the_paper()
    other.branches[BRANCHES[0].key]["iou"] += 0.02
    del other.settings[BASELINE.key]
    text = write_report(SMALL, [found, other], FACTS, CLASSES)
    paper = BRANCHES[0].paper
    assert f"| {BRANCHES[0].title} | 100 | {paper + 1:.2f} ± 1.41 | {paper:.2f} |" in text
    assert f"| {BASELINE.title} | 10 | {BASELINE.paper[0]:.2f} | {BASELINE.paper[0]:.2f} |" in text
    assert "(larger with 2 of 2 seeds)" in text


def test_claims():
    assert Claim("a", "b", (2, 1), [(1, 2)], "Why not.").sentence().endswith("2.00 against 1.00 there. A possible cause: why not.")
    assert (
        Claim("a", "b", (2, 1), [(2, 1)], "Why not.").sentence()
        == "As in the paper, a beats b: 2.00 against 1.00 here, 2.00 against 1.00 there."
    )
    assert Claim("a", "b", (2, 1), []).holds is None
    several = Claim("a", "b", (2, 1), [(1, 2), (5, 2), (3, 2)])
    assert several.holds and "3.00 against 2.00 (larger with 2 of 3 seeds) here" in several.sentence()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_can_be_built_and_are_scored_on_other_streets_than_they_are_trained_on(preset):
    preset.spec.build()
    assert preset.streets["train"].seed != preset.streets["val"].seed
    assert set(preset.with_steps(7).recipe.phase_steps.values()) == {7}
    assert preset.recipe.student_augment.model_copy(update={"max_motion_blur": STRONG.max_motion_blur}) == STRONG


def test_the_other_extractors_have_their_published_channels_in_the_papers_size():
    network = PRESETS["paper"].network
    found = {extractor.key: extractor.network(network).semantic for extractor in EXTRACTORS}
    assert (found["mobilenet"].image_extractor, found["mobilenet"].image_channels) == ("mobilenet", (64, 128, 256))
    assert (found["espnetv2"].image_extractor, found["espnetv2"].image_channels) == ("espnetv2", (32, 64, 128))
    assert [len(found[f"unet3d-{layers}"].lidar_channels) for layers in (1, 2)] == [2, 3]
    assert CONV3D.network(network).geometric.synergy == "deformable" and network.geometric.synergy == "planes"


def test_every_row_of_the_tables_is_trained():
    known = (*SETTINGS, *MORE_SETTINGS)
    assert {*MODULES, *RATIOS, settings.PSEUDO_LABELS} == set(SETTINGS) and len({setting.key for setting in known}) == len(known)
    assert {*settings.ALIGNMENT, *settings.PIPELINE, *settings.EXTREME, *settings.OCCFUSION, *settings.BEYOND} == {
        *(ALL, settings.PSEUDO_LABELS),
        *MORE_SETTINGS,
    }
    assert set(MORE_KEYS).isdisjoint(branch.key for branch in BRANCHES) and len(set(MORE_KEYS)) == len(MORE_KEYS)
    assert settings.branch_of(settings.WITH_TEACHER) is settings.TEACHER
    assert (
        settings.branch_of(BASELINE) is None and settings.branch_of(FULL).share == 1 and settings.branch_of(ALL) is settings.STUDENT
    )


@pytest.mark.slow
def test_the_whole_ablation_in_miniature_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    streets = {"train": Streets(2, 4, 1, 0.17, every=2), "val": Streets(1, 2, 9, 0.17)}
    monkeypatch.setitem(scales.PRESETS, "small", replace(SMALL, streets=streets))
    arguments = ["--preset", "small", "--out", str(tmp_path / "out"), "--report", str(tmp_path / "report.md"), "--steps", "2"]
    arguments += ["--threads", "1", "--workers", "1", "--device", "cpu", "--seeds", "0"]
    assert command.main(arguments) == 0
    text = (tmp_path / "report.md").read_text()
    assert text.count("not run") == 2 * len(MORE_SETTINGS) + 2 * len(EXTRACTORS) + 2 and text.count("| ") > 100
    # Shared phases are trained once: two semantic branches, four teachers, six students, nine fusions.
    assert len(list((tmp_path / "out").glob("seed_0/*/checkpoint.pt"))) == 2 + 4 + 6 + 9
    assert len(list((tmp_path / "out").glob("seed_0/*/bundle/weights.safetensors"))) == 9
    assert command.main([*arguments, "--branches"]) == 0
    assert f"| {BRANCHES[0].title} | 100 | " in (tmp_path / "out" / "table_5.md").read_text()
    capsys.readouterr()
    assert command.main(arguments) == 0
    assert "step" not in capsys.readouterr().out and (tmp_path / "report.md").read_text() == text


@pytest.mark.slow
def test_the_appendix_on_recorded_data(tmp_path, monkeypatch):
    """A data set of SemanticKITTI's layout with label images of its own, in the place of simulated drives."""
    classes, labeller = CLASSES, DegradedLabeller(CLASSES, DegradeConfig(), 0)
    simulate(tmp_path / "data", "kitti", drives=2, frames=4, scale=0.17, workers=1)
    write_missing(tmp_path / "labels", open_all(tmp_path / "data"), labeller, classes, labeller.source)
    monkeypatch.setattr(command, "BRANCHES", ())
    monkeypatch.setattr(command, "DISTURBED", {})
    arguments = [
        "--out",
        str(tmp_path / "out"),
        "--report",
        str(tmp_path / "report.md"),
        "--steps",
        "1",
        "--threads",
        "1",
        "--seeds",
        "0",
    ]
    arguments += ["--data", str(tmp_path / "data"), "--labels", str(tmp_path / "labels"), "--train", "00", "--val", "01"]
    keys = "all,noise-6,from-teacher,weighted,share-1,occfusion-10,self-training,conv3d,espnetv2,mobilenet,unet3d-1,unet3d-2"
    assert command.main([*arguments, "--settings", keys]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "4 training frames of the sequences 00" in text
    for title in (
        "6 % of the pixels wrong",
        "with the geometric teacher",
        "projection weighted by distance",
        "OccFusion's fusion, voxel annotations alone",
        "all modules, averaged teacher",
        "1 % of the annotations",
    ):
        assert re.search(rf"^\| {title} \| \d+ \| \d", text, re.MULTILINE), title
    for title in ("ESPNetv2", "MobileNet", "sparse UNet3D of one layer", "sparse UNet3D of two layers"):
        assert re.search(rf"^\| {title} \| [\d.]+ \| [\d.]+ \| \d", text, re.MULTILINE), title
    assert re.search(rf"^\| {CONV3D.title} \| 10 \| \d", text, re.MULTILINE)
    with pytest.raises(ValueError, match="occle-train label --no-align"):
        command.main([*arguments, "--settings", "unaligned"])
    with pytest.raises(SystemExit):
        command.main(["--settings", "nothing"])
