# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`python -m occle_train.experiments.occle_ablation`: what each part of OccLE's recipe is worth, on simulated KITTI-rig streets.

The settings share phases: a semantic branch is trained once per kind of pseudo-labels, a geometric branch once per share of
annotations and degree of augmentation, and each row of the paper's Tables 6 and 7 is a fusion trained on top of them for the same
number of steps. Every stage is kept in the output folder: a stopped run is resumed. The report is written anew after every
stage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from occle_train.experiments.occle_ablation.claims import branch_claims, listed
from occle_train.experiments.occle_ablation.experiment import AblationExperiment, RecordedData
from occle_train.experiments.occle_ablation.presets import PRESETS
from occle_train.experiments.occle_ablation.report import write_report
from occle_train.experiments.occle_ablation.settings import (
    BRANCHES,
    CONV3D,
    DISTURBED,
    EXTRACTORS,
    LABELS,
    MORE_KEYS,
    MORE_SETTINGS,
    SETTINGS,
    AblationScores,
)
from occle_train.experiments.occle_ablation.tables import branch_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(prog="python -m occle_train.experiments.occle_ablation", description=__doc__)
    default = os.environ.get("PRESET", "small")
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default=default,
        help="small: two CPU cores; full: a GPU; paper: full to the letter; also PRESET=...",
    )
    parser.add_argument("--out", type=Path, help="folder of everything that is kept; out/occle_ablation/PRESET if not given")
    parser.add_argument("--report", type=Path, default=Path("docs/reports/occle_ablation.md"), help="report to write")
    parser.add_argument("--steps", type=int, help="optimiser steps of every phase, instead of the preset's")
    parser.add_argument("--seeds", help="comma-separated seeds of the trainings, instead of the preset's")
    parser.add_argument("--settings", help="comma-separated keys of the networks to train, or all; the main tables' if not given")
    parser.add_argument(
        "--branches", action="store_true", help="train Table 5's geometric branches alone, and write the table to OUT/table_5.md"
    )
    parser.add_argument("--finished", action="store_true", help="report what is scored already; start no training")
    recorded = parser.add_argument_group("recorded data", "SemanticKITTI's layout, instead of simulated streets")
    recorded.add_argument("--data", type=Path, help="data set root")
    recorded.add_argument("--labels", type=Path, help="aligned pseudo-labels, see occle-train label")
    recorded.add_argument("--unaligned", type=Path, help="pseudo-labels without alignment: occle-train label --no-align")
    recorded.add_argument("--train", default="00,01,02,03,04,05,06,07,09,10", help="training sequences")
    recorded.add_argument("--val", default="08", help="validation sequences")
    parser.add_argument("--device", help="torch's device; cuda where there is one, if not given")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of the simulator")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    preset = PRESETS[given.preset]
    if given.steps:
        preset = preset.with_steps(given.steps)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    out = given.out or Path("out/occle_ablation") / given.preset
    known = {setting.key: setting for setting in (*SETTINGS, *MORE_SETTINGS)}
    every = dict.fromkeys([*known, *MORE_KEYS])
    keys = list(every) if given.settings == "all" else (given.settings or ",".join(s.key for s in SETTINGS)).split(",")
    unknown = sorted(set(keys) - set(every))
    if unknown:
        parser.error(f"no setting {', '.join(unknown)}; there are {', '.join(every)}")
    if given.data and not given.labels:
        parser.error("--data needs --labels: make them with occle-train label")
    recorded_data = None
    if given.data:
        recorded_data = RecordedData(given.data, given.train.split(","), given.val.split(","), given.labels, given.unaligned)
    seeds = [int(seed) for seed in given.seeds.split(",")] if given.seeds else list(preset.seeds)
    experiments = [AblationExperiment(preset, out, device, given.workers, recorded_data, seed, given.finished) for seed in seeds]
    experiment = experiments[0]
    software = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    facts = {"date": date.today().isoformat(), "device": _device(device), "seeds": ",".join(map(str, seeds)), **software}
    if recorded_data is not None:
        train, val = len(experiment.samples(1.0, "aligned")), len(experiment.val())
        facts["data"] = (
            f"`{given.data.name}`: {train} training frames of the sequences {given.train}, {val} validation frames of {given.val}. "
            "Segmentations of images are scored against the pseudo-labels, for lack of others."
        )
    scores = [AblationScores() for _ in seeds]
    if given.branches:
        for experiment, found in zip(experiments, scores):
            found.branches = {branch.key: experiment.geometry(branch) for branch in BRANCHES}
        file = out / "table_5.md"
        file.write_text(f"{branch_table(scores)}\n\n{listed(branch_claims(scores))}\n", encoding="utf-8")
        print(f"wrote {file}")
        return 0

    def write() -> None:
        text = write_report(preset, scores, facts, experiment.classes)
        for file in (given.report, out / "report.md"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def keep(rows: dict[str, dict[str, Any]], key: str, found: dict[str, Any]) -> None:
        if found:
            rows[key] = found
            write()

    for experiment, found in zip(experiments, scores):
        for setting in (known[key] for key in keys if key in known):
            keep(found.settings, setting.key, experiment.completion(setting))
        for branch in (*BRANCHES, *([CONV3D] if CONV3D.key in keys else [])):
            keep(found.branches, branch.key, experiment.geometry(branch))
        for labels in LABELS if recorded_data is None or recorded_data.unaligned else ["aligned"]:
            keep(found.labels, labels, experiment.segmentation(labels))
        for extractor in (extractor for extractor in EXTRACTORS if extractor.key in keys):
            keep(found.extractors, extractor.key, experiment.extractor(extractor))
        for case in DISTURBED:
            keep(found.disturbed, case, experiment.disturbed(case))
        found.latency = experiment.latency()
        write()
    print(f"wrote {given.report}")
    return 0


def _device(device: str) -> str:
    """The device in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    models = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return models[0].partition(":")[2].strip() if models else "CPU"


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


if __name__ == "__main__":
    sys.exit(main())
