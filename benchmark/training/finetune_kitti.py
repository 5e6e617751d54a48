# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE on real SemanticKITTI: `python -m benchmark.training.finetune_kitti --bundle B --edgenets CLONE --weights W`.

A network that was trained on simulated streets is fine-tuned on a few real frames: voxels of a tenth of them, accumulated from
labelled scans, and pseudo-labels of all images by ESPNetv2 (Mehta et al.), whose code is imported from a clone of
github.com/sacmehta/EdgeNets and whose Cityscapes weights lie there under model/segmentation/model_zoo/espnetv2. Both networks are
then scored on sequence 08, which is never trained on. What is there already in the output folder is not made again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from occle_train.commands.common import console
from occle_train.data.samples import open_all
from occle_train.data.truth import accumulated
from occle_train.evaluation.evaluate import evaluate
from occle_train.evaluation.terminal_tables import score_table
from occle_train.experiments.label_efficiency.figures import draw_maps
from occle_train.loop.steps import TrainingHooks
from occle_train.occle.fit import fit_occle
from occle_train.occle.phases import OccleRecipeConfig, Phase
from occle_train.occle.samples import OccleSamples
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing

from benchmark.machine import real_data
from benchmark.training.espnet_labels import espnet_labeller
from occle_core import taxonomy
from occle_core.bundle import BundleSpec, load_bundle, save_bundle
from occle_core.datasets import Dataset
from occle_core.networks.occle.config import OccleConfig
from occle_core.networks.occle.network import OccLE
from occle_core.predictor import Predictor
from occle_core.taxonomy import IGNORE

TRAIN, SCORED = "00,05,07", "08"


def main() -> int:
    """Label, fine-tune, score, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.finetune_kitti", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="OccLE bundle trained on simulated streets")
    parser.add_argument("--edgenets", type=Path, required=True, help="clone of github.com/sacmehta/EdgeNets")
    parser.add_argument("--weights", type=Path, required=True, help="espnetv2_s_2.0_city_1024x512.pth")
    parser.add_argument(
        "--data", type=Path, default=real_data() / "semantickitti" / "dataset", help="SemanticKITTI; default: OCCLE_DATA's"
    )
    parser.add_argument("--train", default=TRAIN, help="sequences to fine-tune on")
    parser.add_argument("--score", default=SCORED, help="sequences to score on")
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps of every phase")
    parser.add_argument("--rate", type=float, default=2e-4, help="initial learning rate")
    parser.add_argument("--out", type=Path, default=Path("out/finetune_kitti"))
    parser.add_argument("--picture", type=Path, default=Path("docs/reports/images/finetune_kitti.jpg"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    spec, simulated, bundle_id = load_bundle(given.bundle)
    if not isinstance(simulated, OccLE):
        raise SystemExit(f"{given.bundle} holds no OccLE network")
    classes = taxonomy.load(spec.taxonomy)
    train, scored = (open_all(given.data, sequences.split(",")) for sequences in (given.train, given.score))
    labeller, source = espnet_labeller(given.edgenets, given.weights, classes)
    write_missing(given.out / "labels", train, labeller, classes, source)
    labels = LabelFolder(given.out / "labels", classes)

    steps: dict[Phase, int] = dict.fromkeys(("semantic", "teacher", "student", "fusion"), given.steps)
    recipe = OccleRecipeConfig(
        truth="accumulated",
        min_annotated_fraction=0.5,
        batch_size=2,
        learning_rate=given.rate,
        phase_steps=steps,
        checkpoint_every=50,
    )
    assert isinstance(spec.network, OccleConfig)
    samples = OccleSamples(train, spec.voxel_grid, spec.network, recipe, labels)

    def on_step(phase: str, step: int, losses: dict[str, float]) -> None:
        if (step + 1) % 25 == 0:
            print(f"{phase}: step {step + 1} of {given.steps}, {losses['total']:.3f}", flush=True)

    tuned = fit_occle(spec, samples, recipe, given.out / "fit", "cpu", simulated, TrainingHooks(on_step))
    provenance = {"started_from": bundle_id, "labels": samples.provenance(), "fit": recipe.model_dump(mode="json")}
    save_bundle(given.out / "bundle", spec.model_copy(update={"provenance": provenance}), tuned)

    predictors = {"simulation only": Predictor.load(given.bundle), "fine-tuned": Predictor.load(given.out / "bundle")}
    shown = {"truth": [np.where(truth == IGNORE, np.uint8(classes.free), truth) for truth in _three(scored, accumulated, spec)]}
    for title, predictor in predictors.items():
        scores = evaluate(predictor, scored, accumulated)
        print(title)
        console.print(score_table(scores, classes, predictor.bundle_id))
        shown[title] = _three(scored, lambda dataset, i, grid, own=predictor: own.predict_recorded(dataset, i).labels, spec)
    draw_maps(given.picture, shown, spec.voxel_grid, classes)
    print(f"wrote {given.picture}")
    return 0


def _three(datasets: Sequence[Dataset], labels: Callable[..., NDArray[np.uint8]], spec: BundleSpec) -> list[NDArray[np.uint8]]:
    """The label grids of three frames of the first sequence."""
    dataset = datasets[0]
    return [labels(dataset, i, spec.voxel_grid) for i in range(0, len(dataset), max(1, len(dataset) // 3))][:3]


if __name__ == "__main__":
    sys.exit(main())
