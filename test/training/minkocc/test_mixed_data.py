# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames with voxel truth beside frames without in one training: who learns from what, and how often."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from occle_train import configs
from occle_train.cli import app
from occle_train.data.samples import SOLID, open_all, open_sets
from occle_train.loop.sampling import BatchSampler
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.pseudo_labels.cell_folder import CellFolder
from occle_train.pseudo_labels.lidar import accumulated_occupancy
from occle_train.runs.checks import check_truth
from occle_train.streets import simulate
from rooms import CLASSES, GRID, NETWORK, RECIPE, Rooms, label_folder
from typer.testing import CliRunner

from occle_core.bundle import load_bundle
from occle_core.datasets import DatasetError
from occle_core.rig import read_rig
from occle_core.rig.files import class_list

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/own_rig/rig.yaml"
MIXED = RECIPE.model_copy(
    update={"mixed": True, "alpha": 1.0, "label_unit": "frame", "min_labelled_fraction": 0.5, "lift_weight": 1.0}
)


class Recorded(Rooms):
    """A scene that nobody labelled."""

    def has_truth(self, i):
        return False

    def truth(self, i, grid):
        raise AssertionError("there is no truth to open")


class FewLabels(Rooms):
    """A scene whose first frame is labelled."""

    def has_truth(self, i):
        return i == 0


def samples_of(folder, datasets, labels=None, recipe=MIXED):
    return RecipeSamples(datasets, GRID, NETWORK, recipe, labels, folder / "cache")


def test_frames_with_a_truth_learn_from_it_and_the_others_from_scans_and_labels(tmp_path):
    """The simulated scene and the recorded one may have the same name: labels are those of the recorded one."""
    recorded = Recorded("a")
    labels = label_folder(tmp_path / "labels", [recorded])
    samples = samples_of(tmp_path, [Rooms("a"), Rooms("b"), FewLabels("c"), recorded], labels)
    assert samples.warm == [0, 1, 2, 3, 4, 5, 6] and list(samples.weak) == [7, 8, 9, 10, 11]
    truth = samples.sample(0, "weak")
    assert truth.labelled and truth.views == () and np.array_equal(truth.target, samples.datasets[0].world(0))
    weak = samples.sample(11, "weak")
    assert not weak.labelled and len(weak.views) == 1 and set(np.unique(weak.target)) - {0, 255, SOLID}
    with pytest.raises(ValueError, match="must not be used"):
        samples.truth(11)
    by_scene = MIXED.model_copy(update={"label_unit": "scene", "alpha": 0.5})
    drawn = samples_of(tmp_path, [Rooms("a"), Rooms("b"), recorded], labels, by_scene)
    assert len(drawn.warm) == 3 and len(drawn) == 9 and set(drawn.drawn) < {"a", "b"}  # the recorded a is never drawn
    every = samples_of(tmp_path, [recorded, Rooms("a")], labels, MIXED)
    assert every.drawn == {"a#2/0", "a#2/1", "a#2/2"} and every.warm == [3, 4, 5]


def test_the_share_of_frames_with_a_truth_is_that_of_the_recipe(tmp_path):
    """However many there are: 2 of 11 frames have one, and half of every batch after the warm start does."""
    samples = samples_of(tmp_path, [Rooms("a", 2), Recorded("b", 9)])
    plan = FitConfig(steps=20, batch_size=4, recipe=MIXED).sampling_plan
    labelled = [sum(item in samples.warm for item in items) for _, items in BatchSampler(11, plan, 0, samples.warm, samples.weak)]
    assert labelled == [4] * 10 + [2] * 10


def test_without_label_images_recordings_teach_occupancy(tmp_path):
    samples = samples_of(tmp_path, [Rooms("a"), Recorded("b")])
    sample = samples.sample(4, "weak")
    expected = accumulated_occupancy(samples.datasets[1], 1, GRID, 1, moving="keep")
    codes = np.full(256, 255, np.uint8)
    codes[:2] = CLASSES.free, SOLID
    np.testing.assert_array_equal(sample.target, codes[expected])
    assert sample.views == () and not samples.pixel_counts(20).any()


def test_recordings_alone_are_refused_with_what_is_missing(tmp_path):
    with pytest.raises(DatasetError, match=r"none of the 9 frames has voxel truth, .* --set recipe.alpha=0"):
        samples_of(tmp_path, [Recorded("b", 9)])
    alone = samples_of(tmp_path, [Recorded("b", 9)], recipe=MIXED.model_copy(update={"alpha": 0.0}))
    assert len(alone) == 9 and not alone.warm


def test_the_shipped_configuration_is_mixed():
    content = yaml.safe_load(configs.find_config("mixed").read_text())
    recipe = FitConfig.model_validate(content).recipe
    assert recipe.mixed and recipe.label_unit == "frame" and recipe.alpha == 1 and recipe.moving_points == "rays"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two simulated frames of the example rig, and the same as a recording: without labels and voxels."""
    out = tmp_path_factory.mktemp("sets")
    rig = read_rig(EXAMPLE)
    simulate(out / "streets", rig, drives=1, frames=2, seed=3, scale=0.1, workers=1, classes=class_list(rig, EXAMPLE))
    shutil.copytree(out / "streets", out / "frames", ignore=shutil.ignore_patterns("labels", "voxels"))
    return out


def called(*arguments):
    return CliRunner().invoke(app, [str(word) for word in arguments])


def words(done):
    return " ".join(done.output.split())


def test_one_training_of_two_data_sets(sets, tmp_path):
    streets, frames, run = sets / "streets", sets / "frames", tmp_path / "run"
    given = ["fit", "--data", streets, "--data", frames, "--rig", EXAMPLE, "--size", "tiny", "--threads", 1]
    quick = ["--steps", 24, "--set", "learning_rate=0.01", "--set", "num_workers=0"]
    done = called(*given, "--config", "mixed", *quick, "--out", run)
    assert done.exit_code == 0, done.output
    said = words(done)
    assert f"{streets}: 2 frames of 1 sequences (occle)" in said and f"{frames}: 2 frames of 1 sequences (occle)" in said
    assert "no --labels, so the 2 frames without voxel labels teach occupancy alone" in said
    assert "4 frames of 2 sequences, 2 with voxel labels" in said
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert all(float(row["pseudo"]) == 0 < float(row["occupancy"]) for row in rows)
    made = load_bundle(run / "last")[0].provenance
    assert [(entry["name"], entry["layout"], entry["frames"]) for entry in made["data_sets"]] == [
        ("streets", "occle", 2),
        ("frames", "occle", 2),
    ]
    assert made["labels"]["voxel_labels"]["frames"] == 2 and made["data"]["frames"] == 4
    assert yaml.safe_load((run / "run.yaml").read_text())["options"]["data"] == [str(streets), str(frames)]
    done = called("fit", "--resume", run, "--data", streets)
    assert done.exit_code and "data.frames was 4, is 2" in words(done)


def test_data_without_targets_is_refused_or_counted_in_a_line(sets, tmp_path):
    streets, frames = sets / "streets", sets / "frames"
    given = ["fit", "--rig", EXAMPLE, "--size", "tiny", "--steps", 1, "--threads", 1, "--data", streets, "--data"]
    why = "frames: none of its 2 frames has voxel truth; learn from such frames as well with --config mixed"
    done = called(*given, frames)
    assert done.exit_code == 1 and why in words(done)
    shutil.copytree(streets, tmp_path / "some")
    next((tmp_path / "some").rglob("voxels/*.npz")).unlink()
    (note,) = check_truth({tmp_path / "some": open_all(tmp_path / "some"), streets: open_all(streets)}, [(0, 1), (1, 0), (1, 1)])
    assert "some: 1 of 2 frames have no voxel truth and are left out; learn from such frames" in note
    done = called(*given, streets)
    assert done.exit_code == 1 and "names a folder twice" in words(done)
    (tmp_path / "labels").mkdir()
    mixed = ["--config", "mixed", "--labels", tmp_path / "labels"]
    done = called(*given, frames, "--data", frames / "00", *mixed)
    assert done.exit_code == 1 and "two data sets have a sequence 00" in words(done)
    done = called(*given, frames, *mixed)
    assert done.exit_code == 1 and "has no labels of 2 of 4 frames" in words(done)


def test_sequences_are_those_of_any_data_set(sets):
    streets, frames = sets / "streets", sets / "frames"
    found = open_sets([streets, frames], ["00"])
    assert [[data.name for data in datasets] for datasets in found.values()] == [["00"], ["00"]]
    with pytest.raises(DatasetError, match="have no sequence nowhere"):
        open_sets([streets, frames], ["nowhere"])
    shutil.copytree(frames / "00", sets / "week/monday", dirs_exist_ok=True)
    with pytest.raises(DatasetError, match=r"--sequences names no sequence of .*week; add some, or leave out"):
        open_sets([streets, sets / "week"], ["00"])


def test_recordings_are_carved_on_the_grid_of_their_rig_file(sets, tmp_path):
    (tmp_path / "images").mkdir()
    given = ["--data", sets / "frames", "--out", tmp_path / "images", "--ready", "--cells", tmp_path / "cells"]
    done = called("label", *given)
    assert done.exit_code == 0 and "2 frames with 3D labels" in done.output, done.output
    assert CellFolder(tmp_path / "cells").grid == read_rig(EXAMPLE).grid.grid
