# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""All figures of a GPU in one command: `python -m benchmark.gpu`, eight minutes, nine at most.

Engines by network and voxel size (parity with the eager network, times, memory, launches, copies, kernels), the node's work from
messages in memory to messages, and training steps. Results are written after every row, so that nothing is lost when time is over;
each section has a share of it, and a row that hangs ends the command a minute after it.
It needs occle_core, occle_train and occle_ros, of ROS itself nothing; what is not installed is named in the report and left out.
`--device cpu --tiny` runs the same code in seconds, as a test does. It has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmark.gpu.report import Report
from benchmark.machine import machine

MINUTES = 8.0
SECTIONS = {"networks": 0.6, "node": 0.8, "training": 1.0}
"""Sections, and the share of the minutes after which each begins no further row; the last that is asked for has all."""
GRACE = 1.0
"""Minutes for a row that has begun; where it takes longer, what hangs is printed and the command ends."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="torch's name of the device; cpu needs --tiny")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after which no further row is begun")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--tiny", action="store_true", help="the smallest networks and few runs: does it work?")
    parser.add_argument("--made-up", action="store_true", help="frames of random points instead of simulated streets")
    given = parser.parse_args(arguments)
    if unknown := set(given.only.split(",")) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if given.device == "cpu" and not given.tiny:
        parser.error("the sizes are a GPU's; on a CPU use --tiny")
    if given.device != "cpu" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU (torch.cuda.is_available() is False); --device cpu --tiny tries the command out")
    from benchmark.gpu import networks, pipeline  # not before a wrong option is reported: they import a lot
    from benchmark.gpu.frames import FrameSource

    report = Report(given.out, given.minutes)
    report.head["machine"] = machine()
    report.head["command"] = f"python -m benchmark.gpu {' '.join(arguments if arguments is not None else sys.argv[1:])}".strip()
    if given.device != "cpu":
        free, total = torch.cuda.mem_get_info()
        report.head["memory"] = f"{free / 2**30:.1f} of {total / 2**30:.1f} GB free"
    frames = FrameSource(given.out, given.tiny, given.made_up or given.tiny)
    sections: dict[str, Callable[[Report, FrameSource, str, bool], None]] = {
        "networks": networks.measure_networks,
        "node": pipeline.measure_node,
        "training": pipeline.measure_training,
    }
    asked = [name for name in SECTIONS if name in given.only.split(",")]
    assert sys.__stderr__ is not None
    faulthandler.dump_traceback_later(60 * (given.minutes + GRACE), exit=True, file=sys.__stderr__)
    try:
        for name in asked:
            report.minutes = given.minutes * (1.0 if name == asked[-1] else SECTIONS[name])
            sections[name](report, frames, given.device, given.tiny)
            report.head["frames"] = frames.describe()
            report.write()
    finally:
        faulthandler.cancel_dump_traceback_later()
    print(f"{report.folder / 'gpu.md'} and gpu.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
