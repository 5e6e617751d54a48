"""The shipped networks on every engine: `python -m benchmark.networks`.

Each engine runs in a process of its own, so that its peak memory is its own; all see the same frames, in turns of all frames.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.machine import drive, machine, spread
from occle_core import engines
from occle_core.predictor import Predictor

BUNDLES = {"kitti": Path("config/bundles/kitti"), "nuscenes": Path("config/bundles/nuscenes")}
ENGINES = (("torch", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "int8"), ("tensorrt", "fp32"))
WARM = 3


def main() -> int:
    """Measure all, or (with --one) a single engine in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.networks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--frames", type=int, default=12, help="of each simulated drive")
    parser.add_argument("--turns", type=int, default=4, help="how often all frames are run")
    parser.add_argument("--threads", type=int, help="CPU threads; default: the engine's choice")
    parser.add_argument("--one", nargs=3, metavar=("RIG", "ENGINE", "PRECISION"), help="measure this alone, print JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one, given)))
        return 0
    console = Console()
    console.print(machine(given.threads), highlight=False)
    rows = []
    for rig in BUNDLES:
        drive(given.out / f"drive_{rig}", rig, given.frames)
        for engine, precision in ENGINES:
            command = [sys.executable, "-m", "benchmark.networks", "--one", rig, engine, precision, *_passed_on(given)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            last = (run.stdout.strip().splitlines() or [run.stderr.strip()[-300:]])[-1]
            row = json.loads(last) if run.returncode == 0 else {"rig": rig, "engine": engine, "precision": precision, "why": last}
            rows.append(row)
            print(f"{rig} {engine} {precision}: {row.get('why') or round(row['p50'])}", file=sys.stderr)
    console.print(table(rows))
    given.out.mkdir(parents=True, exist_ok=True)
    write(rows, given.out / "networks.csv")
    draw(rows, given.out / "networks.png")
    return 0


def measure(rig: str, engine: str, precision: str, given: argparse.Namespace) -> dict[str, object]:
    """One engine's times in milliseconds over rotating frames, and this process's peak memory in MB."""
    row: dict[str, object] = {"rig": rig, "engine": engine, "precision": precision}
    dataset = drive(given.out / f"drive_{rig}", rig, given.frames)
    frames = [dataset.frame(i) for i in range(len(dataset))]
    began = time.perf_counter()
    try:
        predictor = Predictor.load(BUNDLES[rig], engine, precision, given.threads)
    except engines.EngineError as error:
        return {**row, "why": str(error).split(":")[0]}
    row["load"] = time.perf_counter() - began
    for frame in frames[:WARM]:
        predictor.predict(frame)
    totals: list[float] = []
    stages: dict[str, list[float]] = {}
    for _ in range(given.turns):
        for frame in frames:
            began = time.perf_counter()
            occupancy = predictor.predict(frame)
            totals.append((time.perf_counter() - began) * 1e3)
            for stage, milliseconds in occupancy.timings.items():
                stages.setdefault(stage, []).append(milliseconds)
    row["p50"], row["p95"], row["p99"] = spread(totals)
    row["stages"] = {stage: float(np.median(values)) for stage, values in stages.items()}
    row["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return row


def table(rows: list[dict]) -> Table:
    """A row per network and engine."""
    shown = Table(title="one frame, sensors to labels: milliseconds")
    for heading in ("network", "engine", "p50", "p95", "p99", "torch / this", "stages (median)", "peak RSS, MB", "load, s"):
        shown.add_column(heading)
    for row in rows:
        name = f"{row['engine']} {row['precision']}"
        if row.get("why"):
            shown.add_row(row["rig"], name, row["why"])
            continue
        base = next((r["p50"] for r in rows if r["rig"] == row["rig"] and r["engine"] == "torch" and "p50" in r), float("nan"))
        stages = ", ".join(f"{stage} {value:.0f}" for stage, value in row["stages"].items() if value >= 0.5)
        times = [f"{row[p]:.0f}" for p in ("p50", "p95", "p99")]
        shown.add_row(row["rig"], name, *times, f"{base / row['p50']:.2f}", stages, f"{row['rss']:.0f}", f"{row['load']:.1f}")
    return shown


def write(rows: list[dict], path: Path) -> None:
    """The rows as CSV, stages as JSON."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["rig", "engine", "precision", "p50", "p95", "p99", "rss", "load", "stages", "why"])
        writer.writeheader()
        writer.writerows({**row, "stages": json.dumps(row.get("stages", {}))} for row in rows)


def draw(rows: list[dict], path: Path) -> None:
    """Bars of stages per network and engine."""
    timed = [row for row in rows if not row.get("why")]
    figure, axis = plt.subplots(figsize=(9, 0.5 * len(timed) + 1.4), dpi=110)
    names = list(dict.fromkeys(stage for row in timed for stage in row["stages"]))
    left = np.zeros(len(timed))
    for name in names:
        width = np.array([row["stages"].get(name, 0.0) for row in timed])
        axis.barh(range(len(timed)), width, left=left, label=name)
        left += width
    axis.set(yticks=range(len(timed)), yticklabels=[f"{r['rig']} {r['engine']} {r['precision']}" for r in timed], xlabel="ms")
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
