# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores, times and pictures of the shipped networks: what their page says. A part of `benchmark.model_page`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from occle_train.data.samples import open_all
from occle_train.data.truth import accumulated, voxel_truth
from occle_train.evaluation.degraded import DEGRADATIONS, DegradeName
from occle_train.evaluation.evaluate import evaluate
from occle_train.runs.validation import Slice, draw_validation, headline, headline_text, slice_of
from occle_train.streets import simulate

from benchmark.engines.networks import RIGS
from occle_core.bundle import BundleSpec, find_bundle, load_bundle
from occle_core.datasets import Dataset
from occle_core.geometry.grid import VoxelGrid
from occle_core.predictor import Predictor
from occle_core.taxonomy import Taxonomy

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


_kept = cache(accumulated)


def accumulated_once(dataset: Dataset, i: int, grid: VoxelGrid) -> NDArray[np.uint8]:
    """As `accumulated`, which takes seconds, kept for the next bundle and the next way to score."""
    return _kept(dataset, i, grid)  # type: ignore[arg-type]  # the protocol says nothing of hashes


@cache
def real_sequences(root: Path, names: tuple[str, ...]) -> list[Dataset]:
    """SemanticKITTI's sequences, opened once."""
    return open_all(root, names)


def milliseconds(name: str, engine: str, out: Path, threads: int) -> tuple[float, float] | str:
    """p50 and p95 of a bundle's frame on an engine, or why it does not run.

    Raises:
        RuntimeError: the measurement broke.
    """
    command = [sys.executable, "-m", "benchmark.engines.networks", "--one", name, engine, "fp32", "1"]
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
