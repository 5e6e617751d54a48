# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train choose` against every n-th frame: `python -m benchmark.training.choose_frames --write docs/how_to/unlabelled.md`.

A network that knows two simulated streets meets a pool of recordings of others. Of the pool 1, 2, 5 and 10 % of the frames are
labelled: those that `choose` ranks highest by this network, or every n-th. It is trained on with these and its first frames, and
scored on streets of which no frame was trained on. Both ways share network, steps, seeds and data. Runs whose scores are in the
output folder are not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from occle_train.adaptation.choose import Candidate, candidates, choose
from occle_train.adaptation.config import AdaptConfig
from occle_train.data.samples import Samples, open_all
from occle_train.evaluation.evaluate import evaluate
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.described_rig import spec_of_rig
from occle_train.minkocc.finish import set_free_bias
from occle_train.minkocc.fit import fit, minkocc_config
from occle_train.runs.validation import predictor_of
from occle_train.streets import simulate

from benchmark.machine import machine
from benchmark.page import add_write_option, publish
from occle_core.atomic_file import write_json
from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.rig import read_rig
from occle_core.rig.files import class_list

RIG = Path(__file__).resolve().parents[2] / "examples" / "own_rig" / "rig.yaml"
STREETS = {"first": (2, 100, 20, 700), "pool": (8, 100, 5, 800), "scored": (4, 100, 20, 900)}
"""Name of a set -> drives, frames of each, every n-th of which is written, seed."""
SHARES = (0.01, 0.02, 0.05, 0.1)
WAYS = ("interval", "choose")


class Chosen(Samples):
    """Some of the frames of data sets.

    Args:
        frames: (dataset, frame) of each.
    """

    def __init__(self, datasets: Sequence[Dataset], spec: BundleSpec, frames: Sequence[tuple[int, int]]) -> None:
        self._frames = sorted(frames)
        super().__init__(datasets, spec.voxel_grid, minkocc_config(spec), mask="none")

    def _find(self) -> tuple[list[tuple[int, int]], Sequence[int]]:
        return self._frames, range(len(self._frames))


def main() -> int:
    """Simulate, train, rank, train on, score."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.choose_frames", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench/choose"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-steps", type=int, default=400, help="optimiser steps of the first network")
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps with the chosen frames")
    add_write_option(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: _streets(given.out / name, name) for name in STREETS}
    spec = spec_of_rig("tiny", RIG)
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        rows += _seed_rows(given.out, spec, sets, seed, given.first_steps, given.steps)
    size = sum(map(len, sets["pool"]))
    head = (
        f"{machine(1)}. {size} frames of {len(sets['pool'])} streets in the pool, {sum(map(len, sets['scored']))} of "
        f"{len(sets['scored'])} others scored, {given.seeds} seeds (first network, its ranking, training; where the interval "
        f"begins). {given.steps} steps with the chosen frames."
    )
    publish(f"{head}\n\n{table(rows, size)}", "benchmark.training.choose_frames", given.write)
    return 0


def table(rows: Sequence[dict[str, Any]], size: int) -> str:
    """Means over the seeds: IoU and mIoU by either way, and the gain in mIoU with its standard error."""
    lines = [
        "| labelled | IoU, interval | IoU, choose | mIoU, interval | mIoU, choose | gain in mIoU |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    first = [row for row in rows if row["way"] == "first"]
    if first:
        cells = [f"{100 * np.mean([row[score] for row in first]):.1f}" for score in ("iou", "miou")]
        lines.append(f"| none: the first network | {cells[0]} | {cells[0]} | {cells[1]} | {cells[1]} | |")
    for share in SHARES:
        own = {way: sorted((r for r in rows if r["way"] == way and r["share"] == share), key=lambda r: r["seed"]) for way in WAYS}
        if not all(own.values()):
            continue
        means = [f"{100 * np.mean([r[score] for r in own[way]]):.1f}" for score in ("iou", "miou") for way in WAYS]
        gains = 100 * np.array([b["miou"] - a["miou"] for a, b in zip(*own.values())])
        error = f" ± {gains.std(ddof=1) / np.sqrt(len(gains)):.1f}" if len(gains) > 1 else ""
        lines.append(f"| {100 * share:g} %: {round(share * size)} | {' | '.join(means)} | {gains.mean():+.1f}{error} |")
    return "\n".join(lines)


def interval(size: int, count: int, begin: float) -> list[int]:
    """Numbers of `count` frames out of `size` at even distances; `begin` 0..1 shifts them."""
    return [int((k + begin) * size / count) for k in range(count)]


def _streets(folder: Path, name: str) -> list[Dataset]:
    drives, frames, every, seed = STREETS[name]
    if missing := [number for number in range(drives) if not (folder / f"{number:02d}").is_dir()]:
        print(f"simulating {len(missing)} drives into {folder}", flush=True)
        rig = read_rig(RIG)
        classes = class_list(rig, RIG)
        assert classes is not None
        simulate(folder, rig, missing, frames, seed, 0.15, 1, every=every, classes=classes)
    return open_all(folder)


def _seed_rows(
    out: Path, spec: BundleSpec, sets: dict[str, list[Dataset]], seed: int, first_steps: int, steps: int
) -> list[dict[str, Any]]:
    """The rows of one seed: of its first network, and of both ways at every share; each is kept when it is there."""
    file = out / f"seed-{seed}.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["rows"] if file.exists() else []
    done = {(row["way"], row["share"]) for row in rows}
    if len(done) == 1 + len(SHARES) * len(WAYS):
        return rows
    known, pool = sets["first"], sets["pool"]
    at_first = [(number, i) for number, data in enumerate(known) for i in range(len(data))]
    in_pool = [(len(known) + number, i) for number, data in enumerate(pool) for i in range(len(data))]
    began = time.monotonic()

    def keep(way: str, share: float, network: MinkOcc) -> None:
        rows.append({"seed": seed, "way": way, "share": share, **_scores(spec, network, sets["scored"])})
        write_json(file, {"rows": rows})
        print(f"{rows[-1]}, {time.monotonic() - began:.0f} s", flush=True)

    first = _trained(spec, Chosen(known, spec, at_first), seed, first_steps, out / f"seed-{seed}" / "first")
    if ("first", 0.0) not in done:
        keep("first", 0.0, first)
    ranked = candidates(spec, first, pool, AdaptConfig())
    print(f"seed {seed}: ranked after {time.monotonic() - began:.0f} s", flush=True)
    for share in SHARES:
        count = round(share * len(in_pool))
        picked = {
            "interval": [in_pool[k] for k in interval(len(in_pool), count, (seed % 4 + 0.5) / 4)],
            "choose": [_place(ranked[k], pool, len(known)) for k in choose(ranked, count)],
        }
        for way in (way for way in WAYS if (way, share) not in done):
            samples = Chosen([*known, *pool], spec, [*at_first, *picked[way]])
            keep(way, share, _trained(spec, samples, seed, steps, out / f"seed-{seed}" / f"{way}-{share}", first))
    return rows


def _place(frame: Candidate, pool: Sequence[Dataset], offset: int) -> tuple[int, int]:
    """(dataset, frame) of a candidate."""
    number = [dataset.name for dataset in pool].index(frame.scene)
    return offset + number, list(pool[number].numbers).index(frame.number)


def _trained(spec: BundleSpec, samples: Samples, seed: int, steps: int, folder: Path, initial: MinkOcc | None = None) -> MinkOcc:
    config = FitConfig(
        steps=steps, batch_size=2, learning_rate=2e-3 if initial is None else 1e-3, warmup_steps=20, ema_decay=0.98, seed=seed,
        truth_mask="none", num_workers=0, checkpoint_every=10_000,
    )  # fmt: skip
    network = fit(spec, samples, config, folder, initial=initial)
    set_free_bias(network, spec, samples, 24)
    return network


def _scores(spec: BundleSpec, network: MinkOcc, datasets: Sequence[Dataset]) -> dict[str, float]:
    grid = evaluate(predictor_of(spec, network), datasets)["grid"]
    return {"iou": float(grid["iou"]), "miou": float(grid.get("miou_present", grid["miou"]))}


if __name__ == "__main__":
    sys.exit(main())
