# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sparse layers of occle, spconv, MinkowskiEngine and a dense conv3d on LiDAR scans: `python -m benchmark.sparse.layers`.

One run gives one table. All competitors of a row take turns, so that a noisy machine is noisy for all of them, and every result
is compared with ours before anything is timed: features, gradient of the features, gradient of the weight.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmark.machine import machine, real_data
from benchmark.sparse.library_peers import Minkowski, Spconv
from benchmark.sparse.peers import Dense, Occle, Peer
from benchmark.sparse.problem import Kind, Problem, distinct, goal, positions
from benchmark.sparse.scans import scans, voxelised
from occle_core.errors import EngineError
from occle_core.native import library
from occle_core.sparse.native_gemm import use_kernels

PEERS: dict[str, tuple[type[Peer], str | None]] = {
    Occle.name: (Occle, None),
    Spconv.name: (Spconv, "spconv"),
    Minkowski.name: (Minkowski, "MinkowskiEngine"),
    Dense.name: (Dense, None),
}
LAYERS: tuple[tuple[str, Kind, int, int, bool], ...] = (
    ("submanifold 3, first of a level", "submanifold", 3, 1, False),
    ("submanifold 3, next of a level", "submanifold", 3, 1, True),
    ("strided 2/2", "strided", 2, 2, False),
    ("generative 2/2", "generative", 2, 2, False),
)
"""Name, kind, kernel, stride, and whether neighbours are known from a layer before. The others start from bare coordinates."""
DENSE_BYTES = 2e9
"""Volumes of features, and of their gradients, beyond which the dense convolution is left out."""
MOST_RUNS = 100
PATIENCE = 10
"""A competitor stops after this multiple of its `seconds`, even with fewer runs than the others."""
TOLERANCE = 1e-3
"""Largest difference to ours, relative to our largest value."""


@dataclass
class Time:
    """One competitor's time in one cell of the table; milliseconds. `why` it was not timed where it was not."""

    scan: str
    resolution: float
    layer: str
    channels: int
    step: str
    peer: str
    voxels: int
    runs: int = 0
    median: float = float("nan")
    lower_quartile: float = float("nan")
    upper_quartile: float = float("nan")
    ratio: float = float("nan")
    why: str = ""


def main() -> int:
    """Parse the arguments, measure, and write the table, the CSV and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.sparse.layers", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder for sparse_layers.csv and .png")
    parser.add_argument("--data", type=Path, help="a data set, or a folder of data sets; default: OCCLE_DATA, else ../shared/data")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of every competitor")
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="per competitor and cell of the table, and at least 5 runs that take no longer than ten times as much",
    )
    parser.add_argument("--quick", action="store_true", help="one simulated scan at 0.4 m, 32 channels, 3 runs: a trial")
    parser.add_argument("--cells", default="0.4,0.2", help="edges of the cells, metres; 0.2 takes many times as long as 0.4")
    given = parser.parse_args()
    with_threads(given.threads)
    with suppress(EngineError):  # without a compiler PyTorch's own way is measured
        print(f"compiled kernels: {library.load(print).instructions}")
    console = Console()
    data = given.data or real_data()
    console.print(machine(given.threads))
    torch.manual_seed(0)
    given.out.mkdir(parents=True, exist_ok=True)
    times: list[Time] = []
    resolutions, widths = ((0.4,), (32,)) if given.quick else (tuple(map(float, given.cells.split(","))), (32, 64))
    seconds, least = (0.0, 3) if given.quick else (given.seconds, 5)
    for scan, dataset in scans(("kitti",)) if given.quick else scans(("kitti", "nuscenes"), data):
        for resolution, shape, cells in voxelised(dataset, resolutions):
            for layer, channels, step in itertools.product(LAYERS, widths, ("forward", "training")):
                problem = make_problem(layer[1:4], cells, shape, channels)
                blank = Time(scan, resolution, layer[0], channels, step, "", len(problem.coords))
                with use_kernels():
                    times += measure(problem, blank, layer[4], seconds, least)
                write_csv(times, given.out / "sparse_layers.csv")  # after each row: a whole table takes long
                show_progress(times)
    print(file=sys.stderr)
    console.print(table(times))
    console.print(summary(times))
    draw(times, given.out / "sparse_layers.png")
    console.print(f"wrote {given.out / 'sparse_layers.csv'} and .png")
    return 1 if any(t.why.startswith("differs") for t in times) else 0


def with_threads(threads: int) -> None:
    """Start the process again where the environment asks for other threads: OpenMP and OpenBLAS read it only once."""
    wanted = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})
    torch.set_num_threads(threads)


def make_problem(layer: tuple[Kind, int, int], cells: Tensor, shape: tuple[int, int, int], channels: int) -> Problem:
    """A layer on a scan's cells; a generative layer starts from the next coarser level and ends on the scan's."""
    kind, kernel, stride = layer
    if kind == "generative":
        cells = distinct(torch.cat([cells[:, :1], cells[:, 1:] // stride], 1)).contiguous()
        shape = (shape[0] // stride, shape[1] // stride, shape[2] // stride)
    weight = torch.randn(kernel**3, channels, channels) / (channels * kernel**3) ** 0.5
    return Problem(kind, kernel, stride, cells, shape, 1, torch.randn(len(cells), channels), weight)


def measure(problem: Problem, blank: Time, reuse: bool, seconds: float, least: int) -> list[Time]:
    """All competitors on one problem, in turns; each has `seconds`, but at least `least` runs, or `PATIENCE` times as long."""
    training = blank.step == "training"
    times = {name: Time(**{**asdict(blank), "peer": name}) for name in PEERS}
    ours = Occle(problem)
    runs: dict[str, Callable[[], None]] = {}
    for name, (peer_type, package) in PEERS.items():
        if package is not None and importlib.util.find_spec(package) is None:
            times[name].why = "not installed"
        elif peer_type is Dense and dense_bytes(problem, training) > DENSE_BYTES:
            times[name].why = f"volumes of {dense_bytes(problem, training) / 1e9:.1f} GB"
        else:
            peer = peer_type(problem)
            times[name].why = difference(ours, peer)
            if not times[name].why:
                runs[name] = a_run(peer, training, reuse)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in itertools.count():
        waiting = [name for name, had in taken.items() if _goes_on(len(had), sum(had), seconds, least)]
        if not waiting:
            break
        # Who goes first changes: caches are warm for the second, and the clock may have gone down for the last.
        for name in waiting[turn % len(waiting) :] + waiting[: turn % len(waiting)]:
            started = time.perf_counter()
            runs[name]()
            taken[name].append(time.perf_counter() - started)
    for name, values in taken.items():
        own = times[name]
        own.runs = len(values)
        own.lower_quartile, own.median, own.upper_quartile = (float(v) * 1e3 for v in np.percentile(values, (25, 50, 75)))
        own.ratio = own.median / (float(np.median(taken[Occle.name])) * 1e3)
    return list(times.values())


def _goes_on(runs: int, took: float, seconds: float, least: int) -> bool:
    if runs < least:
        return not runs or not seconds or took < PATIENCE * seconds
    return took < seconds and runs < MOST_RUNS


def dense_bytes(problem: Problem, training: bool) -> float:
    """Of the float32 volumes of input and output, and of their gradients in training."""
    channels, width = problem.weight.shape[1:]
    cells = channels * np.prod(problem.shape) + width * np.prod(problem.out_shape)
    return float(cells) * 4 * (2 if training else 1)


def difference(ours: Peer, peer: Peer) -> str:
    """Empty where the peer computes what we do, else what differs and by how much."""
    results: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for one in (ours, peer):
        one.features.grad = None
        out = one.run(one.input())
        rows, cells = one.rows(out), one.cells(out)
        rows.backward(goal(cells, rows.shape[1], rows.dtype))  # type: ignore[no-untyped-call]
        assert one.features.grad is not None
        results.append((cells, rows.detach(), one.features.grad, one.weight_gradient().clone()))
        one.clear_gradients()
    (cells, *mine), (other_cells, rows, *gradients) = results
    found = positions(cells, other_cells)
    if len(cells) != len(other_cells) or bool((found < 0).any()):
        return f"differs: {len(other_cells)} cells, ours {len(cells)}"
    for what, a, b in zip(("features", "feature gradients", "weight gradients"), mine, (rows[found], *gradients)):
        share = float((a - b).abs().max() / a.abs().max())
        if not share < TOLERANCE:
            return f"differs: {what} by {share:.1e} of the largest"
    return ""


def a_run(peer: Peer, training: bool, reuse: bool) -> Callable[[], None]:
    """The timed call: a layer's forward pass, or forward and backward, from bare coordinates or on known neighbours."""
    known = peer.input()
    first = peer.run(known)
    gradient = goal(peer.cells(first), peer.problem.weight.shape[2], torch.float32)

    def forward() -> None:
        with torch.no_grad():
            peer.run(peer.again(known) if reuse else peer.input())

    def step() -> None:
        out = peer.run(peer.again(known) if reuse else peer.input())
        peer.rows(out).backward(gradient)  # type: ignore[no-untyped-call]
        peer.clear_gradients()

    run = step if training else forward
    run()
    return run


def show_progress(times: list[Time]) -> None:
    last = times[-1]
    text = f"{last.scan}, {last.resolution} m, {last.layer}, {last.channels} channels, {last.step}"
    print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)


def table(times: list[Time]) -> Table:
    """A row per problem, a column per competitor."""
    shown = Table(title="milliseconds: median (lower to upper quartile), and the ratio to occle's median")
    for heading in ("scan", "cell", "voxels", "layer", "C", "step"):
        shown.add_column(heading)
    for name in PEERS:
        shown.add_column(name, justify="right")
    for _, row in itertools.groupby(times, key=lambda t: (t.scan, t.resolution, t.layer, t.channels, t.step)):
        entries = list(row)
        t = entries[0]
        cells = [entry.why or _figures(entry) for entry in entries]
        shown.add_row(t.scan, f"{t.resolution} m", str(t.voxels), t.layer, str(t.channels), t.step, *cells)
    return shown


def _figures(t: Time) -> str:
    spread = f"{t.median:.1f} ({t.lower_quartile:.1f} to {t.upper_quartile:.1f})"
    return spread if t.peer == Occle.name else f"{spread} {t.ratio:.2f}x"


def geometric_means(times: list[Time], peer: str) -> dict[str, tuple[float, int]]:
    """Of a peer's ratios to ours over all timed cells, and over each step's: (mean, cells)."""
    timed = [t for t in times if t.peer == peer and t.runs]
    groups = {"all": timed, **{step: [t for t in timed if t.step == step] for step in ("forward", "training")}}
    return {name: (float(np.exp(np.mean([np.log(t.ratio) for t in some]))), len(some)) for name, some in groups.items() if some}


def summary(times: list[Time]) -> str:
    """The geometric means as text."""
    lines = ["geometric mean of a peer's time over occle's (more than 1: occle is faster)"]
    for name in PEERS:
        means = geometric_means(times, name)
        if name != Occle.name:
            lines.append(f"  {name}: " + (", ".join(f"{k} {m:.2f} ({n} cells)" for k, (m, n) in means.items()) or "not timed"))
    return "\n".join(lines)


def write_csv(times: list[Time], path: Path) -> None:
    """A row per competitor and problem."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(times[0])))
        writer.writeheader()
        writer.writerows(asdict(t) for t in times)


def draw(times: list[Time], path: Path) -> None:
    """Every cell's ratio as a dot, a row per peer, and the geometric mean as a line."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), dpi=110, sharex=True, sharey=True)
    others = [name for name in PEERS if name != Occle.name]
    for panel, step in zip(axes, ("forward", "training")):
        for row, name in enumerate(others):
            ratios = [t.ratio for t in times if t.peer == name and t.step == step and t.runs]
            panel.scatter(ratios, np.full(len(ratios), row) + np.linspace(-0.2, 0.2, len(ratios)), s=12)
            if ratios:
                panel.plot([geometric_means(times, name)[step][0]] * 2, [row - 0.35, row + 0.35], color="black")
        panel.axvline(1, color="gray", linewidth=1)
        panel.set(xscale="log", yticks=range(len(others)), yticklabels=others, xlabel="time / occle's time", title=step)
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
