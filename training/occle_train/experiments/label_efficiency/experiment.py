# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`python -m occle_train.experiments.label_efficiency.experiment`: what the recipe is worth, on simulated nuScenes-rig streets.

The same network is trained with all voxel labels, with those of a tenth of the scenes, with these and the weak targets of all
scenes (the recipe), by the paper's own recipe, and with what goes beyond it (an averaged teacher; scans without labels first); on
request with weak targets alone, without lifted labels, with smaller voxels, and with the labels of 10, 5 or 1 % of the frames
(recipe-5 and the like); all for the same number of steps, and for several seeds. Every training is kept in the output folder,
OUT/seed_N/SETTING: what was stopped is resumed. Written are tables like the MinkOcc paper's I and II, curves, and pictures like its
Figs. 3 and 4.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from occle_core.atomic_file import write_json
from occle_core.bundle import BundleSpec, load_bundle, save_bundle
from occle_core.datasets import Dataset, list_scenes
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.predictor import Predictor
from occle_core.sparse.native_gemm import compiled_kernels
from occle_core.taxonomy import load as load_taxonomy
from occle_train.configs import find_config
from occle_train.data.samples import open_all
from occle_train.data.self_training import SelfTrainingConfig
from occle_train.data.truth import voxel_truth
from occle_train.evaluation import evaluate as scoring
from occle_train.experiments.label_efficiency.figures import draw_curves, draw_maps, draw_views
from occle_train.experiments.label_efficiency.presets import PRESETS, ExperimentPreset
from occle_train.experiments.label_efficiency.report import NEEDED, Row, write_report
from occle_train.experiments.label_efficiency.settings import FULL, OF_FRAMES, OWN_SETTINGS, SETTINGS, Setting
from occle_train.experiments.label_efficiency.shares import write_shares
from occle_train.loop.steps import TrainingHooks
from occle_train.loop.training_log import LOG
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit, load_head, minkocc_config
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing
from occle_train.streets import simulate

SHARES_PAGE = "label_shares.md"
"""Beside the report."""


class LabelEfficiencyExperiment:
    """All stages in one folder.

    Args:
        preset: data, network and steps.
        out: the folder.
        device: torch's name of the device.
        workers: processes of the simulator and loaders of the training.
    """

    def __init__(self, preset: ExperimentPreset, out: Path, device: str, workers: int) -> None:
        self.preset, self.out, self.device, self.workers = preset, out, device, workers
        self.classes = load_taxonomy("occ3d_nuscenes")

    def data(self, part: str) -> list[Dataset]:
        """The scenes of "train" or "val"; those that are missing are simulated, drive by drive."""
        streets = self.preset.streets[part]
        folder = self.out / "data" / f"{part}-{streets.key}"
        there = set(list_scenes(folder)) if any(folder.glob("*/scene.json")) else set()
        missing = [number for number in range(streets.drives) if f"scene-{number:04d}" not in there]
        if missing:
            print(f"simulating {len(missing)} of {streets.drives} {part} drives into {folder}", flush=True)
            simulate(folder, "nuscenes", missing, streets.frames, streets.seed, streets.images, self.workers, every=streets.every)
        return open_all(folder)

    def labels(self, part: str) -> LabelFolder:
        """Degraded semantic images in the place of a foundation model's labels."""
        folder = self.out / "labels" / f"{part}-{self.preset.streets[part].key}"
        labeller = DegradedLabeller(self.classes, DegradeConfig(), 0)
        write_missing(folder, self.data(part), labeller, self.classes, labeller.source)
        return LabelFolder(folder, self.classes)

    def folder(self, setting: Setting, seed: int) -> Path:
        """Of a training: its checkpoint, log, bundle and scores."""
        return self.out / f"seed_{seed}" / setting.key

    def config(self, setting: Setting, seed: int) -> FitConfig:
        """Training configuration of a setting; only the recipe differs between settings, and only the seed between seeds."""
        fit = self.preset.fit.model_copy(update={"seed": seed})
        warm = self.preset.recipe.warmup_fraction if setting.weak else 1.0
        recipe = self.preset.recipe.model_copy(
            update={
                "alpha": setting.alpha,
                "label_unit": setting.unit,
                "warmup_fraction": warm - (0 if setting.weak else setting.pretrained),
                "pretraining_fraction": setting.pretrained,
                "self_training": SelfTrainingConfig() if setting.self_training else None,
            }
        )
        if setting.literal:
            return literal_config(fit, recipe)
        if not setting.lift:
            recipe = recipe.model_copy(update={"lift_weight": 0.0})
        return fit.model_copy(update={"recipe": recipe})

    def samples(self, part: str, spec: BundleSpec, recipe: MinkOccRecipeConfig, weak: bool = True) -> RecipeSamples:
        """A setting's frames."""
        labels = self.labels(part) if weak else None
        # Every loading process keeps frames of its own.
        memory = 4.0 / max(1, self.preset.fit.num_workers or 1)
        cache = self.out / "accumulated" / part
        return RecipeSamples(
            self.data(part), spec.voxel_grid, minkocc_config(spec), recipe, labels, cache, memory, self.preset.fit.truth_mask
        )

    def train(self, setting: Setting, seed: int) -> Path:
        """The bundle of a setting and seed, trained where it is missing."""
        folder = self.folder(setting, seed)
        if (folder / "bundle").exists():
            return folder / "bundle"
        spec, config = self.preset.spec(setting.finer), self.config(setting, seed)
        assert config.recipe is not None
        samples = self.samples("train", spec, config.recipe, setting.weak)
        start, name = time.monotonic(), f"seed {seed}, {setting.key}"

        def on_step(phase: str, step: int, losses: dict[str, float]) -> None:
            if (step + 1) % 50 == 0:
                values = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
                print(f"{name}: step {step + 1} of {config.steps}, {time.monotonic() - start:.0f} s, {values}", flush=True)

        print(f"{name}: {len(samples)} frames, {len(samples.warm)} with voxel labels", flush=True)
        with compiled_kernels(self.device, print):
            network = fit(spec, samples, config, folder, self.device, hooks=TrainingHooks(on_step))
        provenance = {"data": "simulated streets", "labels": samples.provenance(), "fit": config.model_dump(mode="json")}
        save_bundle(folder / "bundle", spec.model_copy(update={"provenance": provenance}), network)
        return folder / "bundle"

    def scores(self, setting: Setting, seed: int, finished: bool = False) -> dict[str, Any] | None:
        """Scores on the validation drives, measured where they are missing; None for those if only `finished` ones are wanted."""
        file = self.folder(setting, seed) / "scores.json"
        if finished and not file.exists():
            return None
        if not file.exists():
            predictor = Predictor.load(self.train(setting, seed))
            found = scoring.evaluate(predictor, self.data("val"))
            write_json(file, found)
            miou, rayiou = found["occ3d"]["miou"], found["rayiou"]["rayiou"]
            print(f"seed {seed}, {setting.key}: mIoU {100 * miou:.2f}, RayIoU {100 * rayiou:.2f}", flush=True)
        scores: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return scores

    def draw(self, settings: Sequence[Setting], seed: int, pictures: Path) -> None:
        """Curves of a seed, and the pictures of a few validation frames, which no setting was trained on."""
        logs = {setting.title: self.folder(setting, seed) / LOG for setting in settings if setting.finer == 1}
        draw_curves(pictures / "label_efficiency_curves.png", logs, ("occupancy", "semantic", "pseudo"))
        recipe = next(setting for setting in settings if setting.key == "recipe")
        config = self.config(recipe, seed)
        spec, network, _ = load_bundle(self.train(recipe, seed))
        assert isinstance(network, MinkOcc) and config.recipe is not None
        val = self.samples("val", spec, MinkOccRecipeConfig.model_validate({**config.recipe.model_dump(), "alpha": 0.0}))
        items = [round(k * (len(val) - 1) / 2) for k in range(3)]
        head = load_head(spec, config, self.folder(recipe, seed))
        draw_views(pictures / "label_efficiency_views.jpg", network, head, val, items[:2], self.classes)
        places = [val.index[item] for item in items]
        data = self.data("val")
        columns = {"truth": [voxel_truth(data[number], i, spec.voxel_grid) for number, i in places]}
        for setting in settings:
            if setting.finer == 1:
                predictor = Predictor.load(self.train(setting, seed))
                columns[setting.title] = [predictor.predict_recorded(data[number], i).labels for number, i in places]
        shown = {title: [labels for labels in column if labels is not None] for title, column in columns.items()}
        draw_maps(pictures / "label_efficiency_maps.jpg", shown, spec.voxel_grid, self.classes)


def literal_config(fit: FitConfig, recipe: MinkOccRecipeConfig) -> FitConfig:
    """The paper's recipe to the letter, with a preset's steps, learning rate, view sizes and renderer."""
    paper = FitConfig.model_validate(yaml.safe_load(find_config("minkocc_10_paper").read_text("utf-8")))
    assert paper.recipe is not None
    kept = recipe.model_dump(include={"view_width", "view_height", "max_depth", "shader_channels", "switch_steps", "alpha"})
    own = fit.model_dump(
        include={"steps", "batch_size", "learning_rate", "warmup_steps", "checkpoint_every", "num_workers", "seed"}
    )
    return paper.model_copy(update={**own, "epochs": None, "recipe": paper.recipe.model_copy(update=kept)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(prog="python -m occle_train.experiments.label_efficiency", description=__doc__)
    default = os.environ.get("PRESET", "small")
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default=default, help="small: two CPU cores; full: a GPU; also PRESET=..."
    )
    parser.add_argument("--out", type=Path, help="folder of everything that is kept; out/label_efficiency/PRESET if not given")
    report = Path("docs/reports/label_efficiency.md")
    parser.add_argument("--report", type=Path, default=report, help=f"report to write, {SHARES_PAGE} and pictures beside it")
    parser.add_argument("--steps", type=int, help="optimiser steps per setting, instead of the preset's")
    parser.add_argument("--settings", help="comma-separated keys of settings to run; the report needs full and recipe")
    parser.add_argument("--seeds", help="comma-separated seeds, 0,1,2 for instance, instead of the preset's")
    parser.add_argument("--finished", action="store_true", help="report the trainings that are finished; start none")
    parser.add_argument("--device", help="torch's device; cuda where there is one, if not given")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of the simulator")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    preset: ExperimentPreset = PRESETS[given.preset]
    if given.steps:
        preset = preset.with_steps(given.steps)
    keys = given.settings.split(",") if given.settings else preset.settings
    unknown = sorted(set(keys) - {setting.key for setting in SETTINGS})
    if unknown:
        parser.error(f"no setting {', '.join(unknown)}; there are {', '.join(setting.key for setting in SETTINGS)}")
    seeds = preset.seeds
    if given.seeds:
        try:
            seeds = tuple(dict.fromkeys(int(seed) for seed in given.seeds.split(",")))
        except ValueError:
            parser.error(f"--seeds {given.seeds}: no list of whole numbers; --seeds 0,1,2 is one")
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = given.out or Path("out/label_efficiency") / given.preset
    experiment = LabelEfficiencyExperiment(preset, out, device, given.workers)
    settings = [setting for setting in SETTINGS if setting.key in keys]
    found: dict[str, dict[int, dict[str, Any]]] = {setting.key: {} for setting in settings}
    for seed in seeds:
        for setting in settings:
            scores = experiment.scores(setting, seed, given.finished)
            if scores is not None:
                found[setting.key][seed] = scores
    rows = {s.key: Row(s.title, s.alpha, s.finer, found.get(s.key, {})) for s in SETTINGS}
    machine = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    asked = {"settings": ",".join(s.key for s in settings), "seeds": ",".join(map(str, seeds))}
    facts: dict[str, Any] = {"date": date.today().isoformat(), **asked, **machine}
    if rows[FULL.key].scores and any(rows[setting.key].scores for setting in OF_FRAMES):
        write_page(given.report.with_name(SHARES_PAGE), write_shares(preset, rows, facts))
    complete = [seed for seed in seeds if all(seed in found.get(key, {}) for key in NEEDED)]
    if not complete:
        print(f"no {given.report}: it needs the settings {', '.join(NEEDED)} of one seed")
        return 0
    drawn = [setting for setting in settings if setting in OWN_SETTINGS and complete[0] in found[setting.key]]
    experiment.draw(drawn, complete[0], given.report.parent / "images")
    write_page(given.report, write_report(preset, rows, {**facts, "drawn": complete[0]}, experiment.classes))
    return 0


def write_page(file: Path, text: str) -> None:
    """A page of the docs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(f"wrote {file}")
