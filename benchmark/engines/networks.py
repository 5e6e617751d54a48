# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The shipped networks on every engine: `python -m benchmark.engines.networks`.

Each engine runs in a process of its own, so that its peak memory is its own; all see the same frames, in turns of all frames: one
at a time, and two concurrent ones as the node takes them.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.machine import drive, machine, spread
from occle_core.errors import EngineError
from occle_core.frame import Frame
from occle_core.predictor import Predictor

RIGS = {"kitti": "kitti", "kitti_occle": "kitti", "nuscenes": "nuscenes"}
"""Rig of every shipped bundle."""
ENGINES = (
    ("torch", "fp32"),
    ("native", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("tensorrt", "fp32"),
)
AT_ONCE = (1, 2)
WARM = 4
Row = dict[str, Any]


def main() -> int:
    """Measure all, or (with --one) a single engine in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.engines.networks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--frames", type=int, default=12, help="of each simulated drive")
    parser.add_argument("--turns", type=int, default=4, help="how often all frames are run")
    parser.add_argument("--threads", type=int, help="CPU threads; default: the engine's choice")
    parser.add_argument(
        "--one", nargs=4, metavar=("BUNDLE", "ENGINE", "PRECISION", "AT_ONCE"), help="measure this alone, print JSON"
    )
    given = parser.parse_args()
    if given.one:
        bundle, engine, precision, max_concurrent = given.one
        print(json.dumps(measure(bundle, engine, precision, int(max_concurrent), given)))
        return 0
    console = Console(width=150)
    console.print(machine(given.threads), highlight=False)
    rows: list[Row] = []
    for bundle, rig in RIGS.items():
        drive(given.out / f"drive_{rig}", rig, given.frames)
        for (engine, precision), max_concurrent in product(ENGINES, AT_ONCE):
            which = [bundle, engine, precision, str(max_concurrent)]
            command = [sys.executable, "-m", "benchmark.engines.networks", "--one", *which, *_passed_on(given)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            last = (run.stdout.strip().splitlines() or [run.stderr.strip()[-300:]])[-1]
            failed: Row = {
                "bundle": bundle,
                "engine": engine,
                "precision": precision,
                "max_concurrent": max_concurrent,
                "why": last,
            }
            row: Row = json.loads(last) if run.returncode == 0 else failed
            rows.append(row)
            print(f"{' '.join(which)}: {row.get('why') or round(row['p50'])}", file=sys.stderr)
    console.print(table(rows))
    given.out.mkdir(parents=True, exist_ok=True)
    write(rows, given.out / "networks.csv")
    draw(rows, given.out / "networks.png")
    return 0


def measure(bundle: str, engine: str, precision: str, max_concurrent: int, given: argparse.Namespace) -> Row:
    """One engine's times in milliseconds over rotating frames, and this process's peak memory in MB."""
    row: Row = {"bundle": bundle, "engine": engine, "precision": precision, "max_concurrent": max_concurrent}
    began = time.perf_counter()
    try:
        predictor = Predictor.load(bundle, engine, precision, given.threads, max_concurrent=max_concurrent)
    except EngineError as error:
        return {**row, "why": str(error).split(":")[0].split(",")[0].split(";")[0]}
    row["load"] = time.perf_counter() - began
    rig = RIGS[bundle]
    dataset = drive(given.out / f"drive_{rig}", rig, given.frames)
    frames = [dataset.frame(i) for i in range(len(dataset))]

    def timed(frame: Frame) -> tuple[float, dict[str, float]]:
        began = time.perf_counter()
        occupancy = predictor.predict(frame)
        return (time.perf_counter() - began) * 1e3, occupancy.timings

    with ThreadPoolExecutor(max_concurrent) as threads:
        list(threads.map(timed, frames[:WARM]))
        began = time.perf_counter()
        found = list(threads.map(timed, frames * given.turns))
        row["hz"] = len(found) / (time.perf_counter() - began)
    totals = [total for total, _ in found]
    stages = {stage: [timings[stage] for _, timings in found] for stage in found[0][1]}
    row["p50"], row["p95"], row["p99"] = spread(totals)
    row["stages"] = {stage: float(np.median(values)) for stage, values in stages.items()}
    row["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return row


def table(rows: list[Row]) -> Table:
    """A row per network and engine."""
    shown = Table(title="sensors to labels, milliseconds")
    for heading in (
        "network", "engine", "concurrent", "frames/s", "p50", "p95", "p99", "of torch", "stages (median)", "peak RSS, MB", "load, s"
    ):  # fmt: skip
        shown.add_column(heading)
    for row in rows:
        name = f"{row['engine']} {row['precision']}"
        if row.get("why"):
            shown.add_row(row["bundle"], name, str(row["max_concurrent"]), row["why"])
            continue
        same = [r for r in rows if (r["bundle"], r["max_concurrent"]) == (row["bundle"], row["max_concurrent"])]
        base = next((r["hz"] for r in same if r["engine"] == "torch" and "hz" in r), float("nan"))
        stages = ", ".join(f"{stage} {value:.0f}" for stage, value in row["stages"].items() if value >= 0.5)
        times = [f"{row[p]:.0f}" for p in ("p50", "p95", "p99")]
        rate = [str(row["max_concurrent"]), f"{row['hz']:.1f}"]
        shown.add_row(
            row["bundle"], name, *rate, *times, f"{row['hz'] / base:.2f}", stages, f"{row['rss']:.0f}", f"{row['load']:.1f}"
        )
    return shown


def write(rows: list[Row], path: Path) -> None:
    """The rows as CSV, stages as JSON."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["bundle", "engine", "precision", "max_concurrent", "hz", "p50", "p95", "p99", "rss", "load", "stages", "why"]
        )
        writer.writeheader()
        writer.writerows({**row, "stages": json.dumps(row.get("stages", {}))} for row in rows)


def draw(rows: list[Row], path: Path) -> None:
    """Bars of stages per network and engine."""
    timed = [row for row in rows if not row.get("why") and row["max_concurrent"] == 1]
    figure, axis = plt.subplots(figsize=(9, 0.5 * len(timed) + 1.4), dpi=110)
    names = list(dict.fromkeys(stage for row in timed for stage in row["stages"]))
    left = np.zeros(len(timed))
    for name in names:
        width = np.array([row["stages"].get(name, 0.0) for row in timed])
        axis.barh(range(len(timed)), width, left=left, label=name)
        left += width
    labels = [f"{r['bundle']} {r['engine']} {r['precision']}" for r in timed]
    axis.set(yticks=range(len(timed)), yticklabels=labels, xlabel="ms")
    axis.invert_yaxis()
    axis.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.2))
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _passed_on(given: argparse.Namespace) -> list[str]:
    passed = ["--out", str(given.out), "--frames", str(given.frames), "--turns", str(given.turns)]
    return [*passed, "--threads", str(given.threads)] if given.threads else passed


if __name__ == "__main__":
    sys.exit(main())
