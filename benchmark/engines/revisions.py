# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Whole frames by another checkout of the project, in turn with this one: `python -m benchmark.engines.revisions PATH_OF_CHECKOUT`.

Each runs its own bundles, in a process of its own; a frame by one is followed by the same frame by the other, so that the machine's
speed, which varies, is the same for both. The other revision is checked out by `git worktree add PATH REVISION`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmark.machine import drive, machine
from benchmark.page import add_write_option, publish

FRAMES = 8
WARM = 4

PROGRAM = """
import sys, time
from pathlib import Path
from benchmark.machine import drive
from occle_core.predictor import Predictor
folder, rig, engine, threads = sys.argv[1:]
dataset = drive(Path(folder), rig, 0)
frames = [dataset.frame(i) for i in range(len(dataset))]
predictor = Predictor.load(Path("config/bundles") / rig, engine, "fp32", int(threads))
for line in sys.stdin:
    began = time.perf_counter(), time.process_time()
    predictor.predict(frames[int(line)])
    print(time.perf_counter() - began[0], time.process_time() - began[1], flush=True)
"""
"""It runs in either checkout, so it uses only what all revisions have."""

MAP_PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from benchmark.machine import drive
from occle_core.mapping import RollingMap
from occle_core.predictor import Predictor
folder, rig, engine, threads = sys.argv[1:]
dataset = drive(Path(folder), rig, 0)
frames = [dataset.frame(i) for i in range(len(dataset))]
poses = [dataset.pose(i) @ np.linalg.inv(frame.T_grid_lidar) for i, frame in enumerate(frames)]
predictor = Predictor.load(Path("config/bundles") / rig, engine, "fp32", int(threads))
seen = [predictor.predict(frame) for frame in frames]
world = RollingMap(predictor.taxonomy)
for line in sys.stdin:
    number = int(line)
    began = time.perf_counter(), time.process_time()
    world.update(seen[number], frames[number], poses[number])
    print(time.perf_counter() - began[0], time.process_time() - began[1], flush=True)
"""
"""The same for the map's update; where the drive begins again, so does the map."""


@dataclass
class Side:
    """A process that predicts frames, and its times in milliseconds."""

    process: subprocess.Popen[str]
    wall: list[float]
    cpu: list[float]

    def frame(self, number: int, counts: bool) -> None:
        """Predict a frame; `counts`: its time is kept."""
        assert self.process.stdin and self.process.stdout
        with suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            raise SystemExit("benchmark.engines.revisions: a process ended; its error stands above")
        if counts:
            self.wall.append(float(answer[0]) * 1e3)
            self.cpu.append(float(answer[1]) * 1e3)


def compare(
    rig: str, sides: Sequence[tuple[Path, str]], folder: Path, threads: int, turns: int, program: str = PROGRAM
) -> list[Side]:
    """Times of each (checkout, engine) on the same frames, in turn."""
    running = []
    for checkout, engine in sides:
        command = [sys.executable, "-c", program, str(folder), rig, engine, str(threads)]
        process = subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(Side(process, [], []))
    try:
        for number in range(WARM + turns * FRAMES):
            for side in running:
                side.frame(number % FRAMES, number >= WARM)
    finally:
        for side in running:
            side.process.kill()
            side.process.wait()
    return running


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.engines.revisions", description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of the other revision")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engine", default="native", help="of this checkout")
    parser.add_argument("--other-engine", default="torch", help="of the other one")
    parser.add_argument("--map", action="store_true", help="the rolling map's update instead of the network")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of the simulated drives")
    add_write_option(parser)
    given = parser.parse_args(arguments)
    here, other = Path(__file__).resolve().parents[2], given.checkout.resolve()
    named = ["git", "-C", str(other), "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(named, capture_output=True, text=True, check=True).stdout.strip()
    lines = [machine(given.threads), ""]
    lines += [
        f"| network | {revision}, `{given.other_engine}`, ms | this revision, `{given.engine}`, ms | ratio (quartiles) | CPU ms |"
    ]
    lines += ["|---|---:|---:|---:|---:|"]
    for rig in ("kitti", "nuscenes"):
        folder = (given.out / f"drive_{rig}").resolve()
        drive(folder, rig, FRAMES)
        pair = [(other, given.other_engine), (here, given.engine)]
        then, now = compare(rig, pair, folder, given.threads, given.turns, MAP_PROGRAM if given.map else PROGRAM)
        low, middle, high = np.percentile(np.divide(then.wall, now.wall), (25, 50, 75))
        digits = 1 if given.map else 0
        cpu = f"{median(then.cpu):.{digits}f} / {median(now.cpu):.{digits}f}"
        times = " | ".join(f"{median(side.wall):.{digits}f}" for side in (then, now))
        lines += [f"| {rig} | {times} | {middle:.2f} ({low:.2f} to {high:.2f}) | {cpu} |"]
    publish("\n".join(lines), "benchmark.engines.revisions", given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
