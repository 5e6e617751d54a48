# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page of the shipped networks: `python -m benchmark.model_page` writes docs/reports/models.md and its pictures.

Every bundle is scored on simulated validation drives, which are made where they are missing, and on real frames where there are
some; as they are, and without images. Engines are timed one after the other, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from occle_train.data.samples import open_all
from occle_train.data.truth import accumulated, voxel_truth
from occle_train.evaluation.degraded import DEGRADATIONS, DegradeName
from occle_train.evaluation.evaluate import evaluate
from occle_train.evaluation.markdown_tables import markdown, percent
from occle_train.experiments.wrap_lines import wrap_lines
from occle_train.runs.validation import Slice, draw_validation, headline, headline_text, slice_of
from occle_train.streets import simulate

from benchmark.machine import machine, real_data
from benchmark.networks import RIGS
from occle_core.atomic_file import atomic_write
from occle_core.bundle import BundleSpec, find_bundle, load_bundle
from occle_core.datasets import Dataset
from occle_core.geometry.grid import VoxelGrid
from occle_core.predictor import Predictor
from occle_core.taxonomy import Taxonomy

ENGINES = ("torch", "native", "onnxruntime", "openvino")
PICTURE_WIDTH = 1200
REAL = {"00, 05, 07": ("00", "05", "07"), "08": ("08",)}
"""SemanticKITTI's sequences that are scored together; 08 is never used to choose."""


@dataclass(frozen=True)
class Drives:
    """Simulated validation drives of a rig: streets that no training saw.

    Args:
        options: of `occle_train.streets.simulate`.
        score_every: each n-th of a drive's frames is scored.
    """

    options: dict[str, Any]
    score_every: int = 1

    def command(self, rig: str) -> str:
        """What simulates them."""
        return f"occle-train simulate D --rig {rig} " + " ".join(f"--{name} {value}" for name, value in self.options.items())

    def open(self, folder: Path, rig: str) -> list[Dataset]:
        """The drives, simulated once."""
        if not folder.is_dir():
            print(f"simulating the {rig} rig's validation drives into {folder}", flush=True)
            simulate(folder, rig, workers=2, **self.options)
        return open_all(folder)


VALIDATION = {
    "kitti": Drives({"drives": 4, "frames": 60, "every": 10, "seed": 9001}),
    "nuscenes": Drives({"drives": 3, "frames": 6, "seed": 9002, "scale": 0.4}, score_every=2),
}


@dataclass
class Model:
    """What the page says of a bundle.

    Args:
        name, rig: of the bundle.
        spec, bundle_id, taxonomy: from the bundle.
        parameters: of the network.
        size: of the bundle's files, bytes.
        scores: column's title -> scores of `evaluate`.
        times: engine -> p50 and p95 of a frame, milliseconds, or why it does not run.
    """

    name: str
    rig: str
    spec: BundleSpec
    bundle_id: str
    taxonomy: Taxonomy
    parameters: int
    size: int
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    times: dict[str, tuple[float, float] | str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, draw, time, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.model_page", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/models"), help="simulated drives, kept")
    parser.add_argument("--page", type=Path, default=Path("docs/reports/models.md"), help="pictures go to images/ beside it")
    parser.add_argument("--real", type=Path, default=real_data() / "semantickitti" / "dataset", help="SemanticKITTI, where it is")
    parser.add_argument("--bundles", default=",".join(RIGS), help="comma-separated names of shipped bundles")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated; empty: none is timed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    models = [measure(name, given) for name in given.bundles.split(",")]
    given.page.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(given.page) as file:
        file.write_text(page_of(models, machine(given.threads)), "utf-8")
    print(f"wrote {given.page}")
    return 0


def measure(name: str, given: argparse.Namespace) -> Model:
    """A bundle's scores and times, and its picture beside the page.

    Args:
        name: of the bundle.
        given: the command's options.
    """
    rig, folder = RIGS[name], find_bundle(name)
    spec, network, bundle_id = load_bundle(folder)
    predictor = Predictor.load(folder, threads=given.threads)
    size = sum(file.stat().st_size for file in folder.iterdir())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    model = Model(name, rig, spec, bundle_id, predictor.taxonomy, parameters, size)
    drives = VALIDATION[rig].open(given.out / f"validation_{rig}", rig)
    parts = {"simulated": Slice(drives, VALIDATION[rig].score_every, voxel_truth)}
    if rig == "kitti" and given.real.is_dir():
        parts |= {title: Slice(real_sequences(given.real, names), 1, accumulated_once) for title, names in REAL.items()}
    for title, part in parts.items():
        as_it_is = title == "08" or spec.network.needs_images
        degradations: tuple[DegradeName, ...] = ("nothing",) if as_it_is else ("nothing", "images")
        for degrade in degradations:
            predictor.forget()
            found = evaluate(predictor, part.datasets, part.truth, part.every, degrade=DEGRADATIONS[degrade])
            column = title if degrade == "nothing" else f"{title}, no {degrade}"
            model.scores[column] = found
            print(f"{name}, {column}: {headline_text(headline(found))}", flush=True)
    save_picture(draw_validation(given.out, slice_of(drives, 3, given.out), predictor)[0], picture_file(given.page, name))
    for engine in given.engines.split(",") if given.engines else ():
        model.times[engine] = milliseconds(name, engine, given.out, given.threads)
    return model


@cache
def accumulated_once(dataset: Dataset, i: int, grid: VoxelGrid) -> NDArray[np.uint8]:
    """As `accumulated`, which takes seconds, kept for the next bundle and the next way to score."""
    return accumulated(dataset, i, grid)


@cache
def real_sequences(root: Path, names: tuple[str, ...]) -> list[Dataset]:
    """SemanticKITTI's sequences, opened once."""
    return open_all(root, names)


def milliseconds(name: str, engine: str, out: Path, threads: int) -> tuple[float, float] | str:
    """p50 and p95 of a bundle's frame on an engine, or why it does not run.

    Raises:
        RuntimeError: the measurement broke.
    """
    command = [sys.executable, "-m", "benchmark.networks", "--one", name, engine, "fp32", "1"]
    options = ["--out", str(out), "--threads", str(threads)]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{engine} on {name}: {run.stderr.strip()[-500:]}")
    row = json.loads(run.stdout.strip().splitlines()[-1])
    print(f"{name}, {engine}: {row.get('why') or round(row['p50'])}", flush=True)
    return str(row["why"]) if row.get("why") else (row["p50"], row["p95"])


def picture_file(page: Path, name: str) -> Path:
    """Where a bundle's picture lies."""
    return page.parent / "images" / f"model_{name}.jpg"


def save_picture(drawn: Path, file: Path) -> None:
    """A drawn picture at the size of a page."""
    picture = cv2.imread(str(drawn))
    assert picture is not None
    size = PICTURE_WIDTH, round(picture.shape[0] * PICTURE_WIDTH / picture.shape[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), cv2.resize(picture, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 85])


def page_of(models: Sequence[Model], where: str) -> str:
    """The page, in Markdown.

    Args:
        models: what was measured.
        where: date, machine and versions.
    """
    blocks = [
        f"""# The shipped networks

Written by `python -m benchmark.model_page` on {where}.

All weights have seen simulated streets alone. [Measurements](performance.md) say how they were trained, what did not
help, and how fast the live node is; [shipped bundles](../how_to/shipped_bundles.md) how to train better ones.

## At a glance

{overview(models)}

IoU of occupied against free, and mIoU over the classes that the truth holds, percent. *No images*: the same frames with
every camera left out (`occle-train evaluate --degrade images`), which OccLE refuses. Columns with numbers are
SemanticKITTI's sequences, ten real frames of each. Their truth is accumulated from the ten labelled scans (`--truth
accumulated`); cells that no ray reached do not count. A class that the truth does not hold has 0.00. 08 was never used
to choose anything."""
    ]
    if any(model.times for model in models):
        blocks.append(f"""## Time of a frame, from sensors to labels

{latency_table(models)}

p50 / p95 in milliseconds, one frame at a time, simulated drives at the sensors' full resolution (`python -m benchmark.networks`
has memory, throughput and stages too).""")
        blocks += sorted({f"- {reason}" for model in models for reason in refusals(model)})
    return wrap_lines("\n\n".join([*blocks, *(section(model) for model in models)]) + "\n")


def overview(models: Sequence[Model]) -> str:
    """A row per bundle."""
    columns = list(dict.fromkeys(column for model in models for column in model.scores))
    rows = []
    for model in models:
        cells = " x ".join(map(str, model.spec.grid.shape)) + f" of {model.spec.grid.resolution:g} m"
        size = [f"{model.parameters / 1e6:.2f}", f"{model.size / 1e6:.1f}", cells]
        scores = [_iou_and_miou(model.scores.get(column)) for column in columns]
        rows.append([f"[{model.name}](#{model.name})", model.spec.network.kind, *size, *scores])
    return markdown(["bundle", "network", "parameters, M", "MB", "cells", *columns], rows)


def latency_table(models: Sequence[Model]) -> str:
    """A row per bundle, a column per engine."""
    engines = list(models[0].times)
    rows = [
        [model.name, *("-" if isinstance(time, str) else f"{time[0]:.0f} / {time[1]:.0f}" for time in model.times.values())]
        for model in models
    ]
    return markdown(["bundle", *engines], rows)


def refusals(model: Model) -> list[str]:
    """Why engines do not run a bundle."""
    return [f"{engine}, {model.name}: {time}." for engine, time in model.times.items() if isinstance(time, str)]


def section(model: Model) -> str:
    """A bundle by itself: its picture, frames, scores of every class, and what its confidences are worth."""
    columns = {title: found.get("occ3d") or found["grid"] for title, found in model.scores.items()}
    rows = [["occupied against free", *(percent(scores["iou"]) for scores in columns.values())]]
    for name in ("precision", "recall"):
        if all(name in scores for scores in columns.values()):
            rows.append([name, *(percent(scores[name]) for scores in columns.values())])
    rows.append(["mIoU over present classes", *(percent(s.get("miou_present", s["miou"])) for s in columns.values())])
    if all("rayiou" in found for found in model.scores.values()):
        rows.append(["RayIoU", *(percent(found["rayiou"]["rayiou"]) for found in model.scores.values())])
    solid = [name for number, name in enumerate(model.taxonomy.names) if number != model.taxonomy.free]
    rows += [[name, *(percent(s["per_class"][number]) for s in columns.values())] for number, name in enumerate(solid)]
    masked = " under the camera mask (Occ3D)" if any("occ3d" in found for found in model.scores.values()) else ""
    drives = VALIDATION[model.rig]
    every = f", with `evaluate --every {drives.score_every}`" if drives.score_every > 1 else ""
    return f"""## {model.name}

![Prediction and truth of a simulated validation frame, in the image and from behind](images/model_{model.name}.jpg)

`config/bundles/{model.name}`, {model.bundle_id}. {calibration(model.spec.provenance.get("calibration"))} Simulated
frames: {model.scores["simulated"]["frames"]} of these drives{every}.

```
{drives.command(model.rig)}
```

{markdown([f"IoU, %{masked}", *columns], rows)}"""


def calibration(note: dict[str, Any] | None) -> str:
    """How far the bundle's probabilities are from what they say, in a sentence."""
    if note is None:
        return "Its confidences are not calibrated (`occle-train calibrate` does it)."
    errors = note["expected_calibration_error"]
    before, after = ({key: f"{100 * value:.1f}" for key, value in errors[when].items()} for when in ("before", "after"))
    return (
        "Its confidences are calibrated on held-out simulated drives, expected calibration error before and after: of the class "
        f"{before['class']} and {after['class']} %, of occupancy {before['occupied']} and {after['occupied']} % in cells called "
        f"occupied, {before['occupied_all']} and {after['occupied_all']} % in all known cells."
    )


def _iou_and_miou(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return "-"
    found = headline(scores)
    return f"{100 * found['iou']:.1f} / {100 * found['miou']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
