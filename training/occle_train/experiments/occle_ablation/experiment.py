# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""All stages of the ablation in one folder. Phases that several settings share are trained once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from occle_core.atomic_file import write_json
from occle_core.bundle import BundleSpec, save_bundle
from occle_core.datasets import Dataset, list_scenes
from occle_core.networks.occle.network import OccLE
from occle_core.sparse.native_gemm import compiled_kernels
from occle_core.taxonomy import IGNORE
from occle_core.taxonomy import load as load_taxonomy
from occle_train.data.samples import open_all
from occle_train.experiments.occle_ablation.presets import ExperimentPreset
from occle_train.experiments.occle_ablation.settings import (
    ALL,
    SHARE,
    BranchSetting,
    Extractor,
    Setting,
    branch_of,
    papers_recipe,
)
from occle_train.loop.steps import TrainingHooks
from occle_train.occle.augment import OccleAugment, student_augment
from occle_train.occle.batches import steps_of
from occle_train.occle.fit import CELLS, PhaseTraining, fresh_network
from occle_train.occle.phases import OccleRecipeConfig, Phase
from occle_train.occle.samples import OccleSamples
from occle_train.occle.scores import completion, geometry, latencies, segmentation
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller, semantic_file
from occle_train.pseudo_labels.label_folder import LabelFolder, Labels, read_gray, write_missing
from occle_train.pseudo_labels.noise import NoisyLabeller
from occle_train.pseudo_labels.unaligned import UnalignedLabeller
from occle_train.streets import simulate

GEOMETRY_OFF = {"point_dropout_prob": 0.0, "max_point_dropout": 0.0, "min_point_sampling": 1.0}
IMAGE_OFF = {"brightness_jitter": 0.0, "hsv_jitter": 0.0, "max_motion_blur": 0, "weather_prob": 0.0, "max_cutout": 0.0}


@dataclass(frozen=True)
class RecordedData:
    """A data set of SemanticKITTI's classes on disk, instead of simulated streets.

    Args:
        root: its folder.
        train, val: sequences.
        labels: aligned pseudo-labels of the images of both.
        unaligned: the same without alignment; None leaves the rows out that need them.
    """

    root: Path
    train: Sequence[str]
    val: Sequence[str]
    labels: Path
    unaligned: Path | None = None

    def labels_of(self, kind: str) -> Path:
        """Folder of the labels of a kind.

        Raises:
            ValueError: there is none.
        """
        if kind == "unaligned" and self.unaligned is None:
            raise ValueError("rows without alignment need labels without it: occle-train label --no-align, then --unaligned DIR")
        return self.unaligned if kind == "unaligned" and self.unaligned is not None else self.labels


class AblationExperiment:
    """See the module.

    Args:
        preset: data, network and steps.
        out: the folder; what is there already is not made again.
        device: torch's name of the device that trains; scores are computed on the CPU.
        workers: processes of the simulator.
        recorded: data and labels to use instead of simulated ones.
        seed: of all trainings, which lie in a folder of the seed; data and labels are all seeds'.
        finished: give only scores that are there; of what was not scored yet they are empty.
    """

    def __init__(
        self,
        preset: ExperimentPreset,
        out: Path,
        device: str,
        workers: int,
        recorded: RecordedData | None = None,
        seed: int = 0,
        finished: bool = False,
    ) -> None:
        self.recorded, self.finished = recorded, finished
        self.preset = replace(preset, recipe=preset.recipe.model_copy(update={"seed": seed}))
        self.shared, self.out, self.device, self.workers = out, out / f"seed_{seed}", device, workers
        self.classes = load_taxonomy("semantickitti")
        self.spec = preset.spec
        self.data = cache(self._data)
        self.samples = cache(self._samples)
        self.val = cache(self._val)

    def segmentation(self, labels: str) -> dict[str, Any]:
        """Table 4: the semantic branch after phase I with labels of a kind."""
        return self._kept(f"semantic-{labels}", lambda: segmentation(self._semantic(labels), self.val()))

    def extractor(self, extractor: Extractor) -> dict[str, Any]:
        """Table 4: the semantic branch with another extractor, after phase I, and the extractor's milliseconds."""

        def measure() -> dict[str, Any]:
            network = self._semantic("aligned", extractor)
            return {**segmentation(network, self.val()), "ms": latencies(network, self.val(), (extractor.part,))[extractor.part]}

        return self._kept(f"semantic-{extractor.key}", measure)

    def geometry(self, branch: BranchSetting) -> dict[str, Any]:
        """Table 5: a geometric branch; the baseline's milliseconds too."""

        def measure() -> dict[str, Any]:
            network = self._geometric(branch)
            found = {"iou": geometry(network, self.val())}
            return found | ({"ms": latencies(network, self.val(), ("geometric",))["geometric"]} if branch.deformable else {})

        return self._kept(branch.key, measure)

    def completion(self, setting: Setting) -> dict[str, Any]:
        """Tables 6 and 7: a whole network."""
        return self._kept(setting.key, lambda: completion(self._network(setting), self.val()))

    def disturbed(self, case: str) -> dict[str, Any]:
        """Table D.4: the student's augmentation at inference."""
        off: dict[str, Any] = {"image": GEOMETRY_OFF, "points": IMAGE_OFF, "both": {}, "baseline": GEOMETRY_OFF | IMAGE_OFF}[case]
        augment: OccleAugment = self.preset.recipe.student_augment.model_copy(update=off)

        def measure() -> dict[str, Any]:
            network = self._network(ALL)
            return {"iou": geometry(network, self.val(), augment), "miou": completion(network, self.val(), augment)["miou"]}

        return self._kept(f"disturbed-{case}", measure)

    def latency(self) -> dict[str, Any]:
        """Tables 4, 5 and D.2: milliseconds of the branches."""
        return self._kept("latency", lambda: latencies(self._network(ALL), self.val()))

    def _semantic(self, labels: str, extractor: Extractor | None = None) -> OccLE:
        config, spec = papers_recipe(self.preset.recipe, SHARE), self.spec
        if extractor is not None:
            spec = spec.model_copy(update={"network": extractor.network(self.preset.network)})
        key = f"semantic-{extractor.key if extractor else labels}"
        return self._phase(fresh_network(spec, config), "semantic", config, key, labels=labels, spec=spec)

    def _geometric(self, branch: BranchSetting) -> OccLE:
        config = papers_recipe(self.preset.recipe, branch.share)
        spec = self.spec.model_copy(update={"network": branch.network(self.preset.network)})
        teacher = f"teacher-{100 * branch.share:g}" if branch.student else branch.key
        network = self._phase(fresh_network(spec, config), "teacher", config, teacher, spec=spec)
        if not branch.student:
            return network
        augment = student_augment(branch.middle, branch.strong, config.student_augment)
        config = config.model_copy(update={"student_augment": augment})
        return self._phase(fresh_network(self.spec, config), "student", config, branch.key, teacher)

    def _network(self, setting: Setting) -> OccLE:
        config = setting.recipe(self.preset.recipe)
        spec = self.spec.model_copy(update={"network": setting.network(self.preset.network)})
        network, branch = fresh_network(spec, config), branch_of(setting)
        if "semantic" not in setting.without:
            network.semantic.load_state_dict(self._semantic(setting.labels).semantic.state_dict())
        if branch is not None:
            network.geometric.load_state_dict(self._geometric(branch).geometric.state_dict())
        network = self._phase(network, "fusion", config, setting.key, labels=setting.labels, spec=spec)
        bundle = self.out / setting.key / "bundle"
        if not bundle.exists():
            data = "simulated streets" if self.recorded is None else str(self.recorded.root)
            sources = {"data": data, "labels": self.samples(setting.share, setting.labels).provenance()}
            provenance = {**sources, "confidence": config.confidence_threshold, "fit": config.model_dump(mode="json")}
            save_bundle(bundle, spec.model_copy(update={"provenance": provenance}), network)
        return network

    def _phase(
        self,
        network: OccLE,
        phase: Phase,
        config: OccleRecipeConfig,
        key: str,
        teacher: str = "",
        labels: str = "aligned",
        spec: BundleSpec | None = None,
    ) -> OccLE:
        started, samples = time.monotonic(), self.samples(config.annotated_fraction, labels)
        steps = steps_of(samples, phase, config)

        def on_step(phase: str, step: int, losses: dict[str, float]) -> None:
            if (step + 1) % 50 == 0 or step + 1 == steps:
                values = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
                print(f"{key}: step {step + 1} of {steps}, {time.monotonic() - started:.0f} s, {values}", flush=True)

        training = PhaseTraining(spec or self.spec, samples, config, self.device, hooks=TrainingHooks(on_step))
        with compiled_kernels(self.device, print):
            training.run(network, phase, self.out / key, self.out / teacher, self.shared / CELLS / self._labels_name(labels))
        return network

    def _data(self, part: str) -> list[Dataset]:
        """The drives of "train" or "val"; those that are missing are simulated, one by one."""
        if self.recorded is not None:
            return open_all(self.recorded.root, self.recorded.train if part == "train" else self.recorded.val)
        streets = self.preset.streets[part]
        folder = self.shared / "data" / f"{part}-{streets.key}"
        there = set(list_scenes(folder)) if any(folder.glob("sequences/*")) else set()
        for number in (number for number in range(streets.drives) if f"{number:02d}" not in there):
            print(f"simulating {part} drive {number + 1} of {streets.drives}", flush=True)
            simulate(folder, "kitti", [number], streets.frames, streets.seed, streets.images, self.workers, every=streets.every)
        return open_all(folder)

    def _samples(self, share: float, labels: str) -> OccleSamples:
        """The training set with pseudo-labels of a kind, of which a share is annotated."""
        config = papers_recipe(self.preset.recipe, share)
        return OccleSamples(self.data("train"), self.preset.grid, self.preset.network, config, self._labels(labels))

    def _labels(self, kind: str) -> LabelFolder:
        """The training images' pseudo-labels of a kind; those that are missing are made."""
        noise = float(kind.removeprefix("noise-")) / 100 if kind.startswith("noise-") else 0.0
        if self.recorded is not None and not noise:
            return LabelFolder(self.recorded.labels_of(kind), self.classes)
        folder = self.shared / "labels" / self._labels_name(kind)
        if noise:
            aligned = self._labels("aligned")
            maker: Any = NoisyLabeller(aligned.bytes_of, aligned.source, self.classes, noise, 0)
        else:
            maker = (UnalignedLabeller if kind == "unaligned" else DegradedLabeller)(self.classes, DegradeConfig(), 0)
        write_missing(folder, self.data("train"), maker, self.classes, maker.source)
        return LabelFolder(folder, self.classes)

    def _labels_name(self, kind: str) -> str:
        """Name of the training images' pseudo-labels of a kind, and of what is made of them."""
        return kind if self.recorded is not None else f"{kind}-{self.preset.streets['train'].key}"

    def _val(self) -> OccleSamples:
        """Validation frames, all with their truth, and exact labels of their images; pseudo-labels where the data is recorded."""
        if self.recorded is not None:
            config, labels = papers_recipe(self.preset.recipe, 1.0), LabelFolder(self.recorded.labels_of("aligned"), self.classes)
            return OccleSamples(self.data("val"), self.preset.grid, self.preset.network, config, labels)
        folder = self.shared / "labels" / f"exact-{self.preset.streets['val'].key}"
        write_missing(folder, self.data("val"), _exact, self.classes, {"exact": "the simulator's"})
        config = papers_recipe(self.preset.recipe, 1.0)
        return OccleSamples(self.data("val"), self.preset.grid, self.preset.network, config, LabelFolder(folder, self.classes))

    def _kept(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Scores, measured where they are missing."""
        file = self.out / key / "scores.json"
        if self.finished and not file.exists():
            return {}
        if not file.exists():
            found = measure()
            write_json(file, found)
            print(key, {name: round(value, 4) for name, value in found.items() if isinstance(value, float)}, flush=True)
        scores: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return scores


def _exact(dataset: Dataset, i: int, camera: str) -> Labels:
    labels = read_gray(semantic_file(dataset, i, camera))
    return labels, np.where(labels == IGNORE, np.uint8(0), np.uint8(255))
