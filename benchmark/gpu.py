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
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.machine import machine
from occle_core.atomic_file import atomic_write, write_json
from occle_core.errors import EngineError

MINUTES = 8.0
SECTIONS = {"networks": 0.6, "node": 0.8, "training": 1.0}
"""Sections, and the share of the minutes after which each begins no further row; the last that is asked for has all."""
GRACE = 1.0
"""Minutes for a row that has begun; where it takes longer, what hangs is printed and the command ends."""
Row = dict[str, Any]


@dataclass
class Report:
    """Rows by section, written to gpu.json and gpu.md after each.

    Args:
        folder: where to.
        minutes: after which no further row is begun; for each section less, see SECTIONS.
    """

    folder: Path
    minutes: float
    head: dict[str, str] = field(default_factory=dict)
    sections: dict[str, list[Row]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def out_of_time(self) -> bool:
        """True if no further row is begun."""
        return time.monotonic() - self.began > 60 * self.minutes

    def measure(self, section: str, name: Row, run: Callable[[], Row]) -> None:
        """Add a row; what fails is a row that says why."""
        began = time.monotonic()
        row = dict(name)
        if self.out_of_time:
            row["why"] = f"left out: {self.minutes:g} minutes are over"
        else:
            try:
                row |= run()
            except (EngineError, ImportError) as error:
                row["why"] = " ".join(str(error).split())[:200]
            except Exception as error:  # one row must not cost the others
                row["why"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                print(traceback.format_exc(), file=sys.stderr)
        row["seconds"] = round(time.monotonic() - began, 1)
        self.sections.setdefault(section, []).append(row)
        print(f"{section}: {', '.join(f'{key} {_shown(value)}' for key, value in row.items())}", flush=True)
        self.write()

    def write(self) -> None:
        """Both files."""
        write_json(self.folder / "gpu.json", {**self.head, **self.sections})
        with atomic_write(self.folder / "gpu.md") as file:
            file.write_text("\n".join(self._markdown()) + "\n", encoding="utf-8")

    def _markdown(self) -> Iterator[str]:
        yield "# GPU"
        for key, value in self.head.items():
            yield f"\n{key}: {value}"
        for section, rows in self.sections.items():
            names = list(dict.fromkeys(key for row in rows for key in row))
            yield f"\n## {section}\n"
            yield f"| {' | '.join(names)} |"
            yield f"|{'---|' * len(names)}"
            for row in rows:
                yield f"| {' | '.join(_shown(row.get(name, '')) for name in names)} |"


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
    from benchmark import gpu_networks, gpu_pipeline  # not before a wrong option is reported: they import a lot
    from benchmark.gpu_frames import FrameSource

    report = Report(given.out, given.minutes)
    report.head["machine"] = machine()
    report.head["command"] = f"python -m benchmark.gpu {' '.join(arguments if arguments is not None else sys.argv[1:])}".strip()
    if given.device != "cpu":
        free, total = torch.cuda.mem_get_info()
        report.head["memory"] = f"{free / 2**30:.1f} of {total / 2**30:.1f} GB free"
    frames = FrameSource(given.out, given.tiny, given.made_up or given.tiny)
    sections: dict[str, Callable[[Report, FrameSource, str, bool], None]] = {
        "networks": gpu_networks.measure_networks,
        "node": gpu_pipeline.measure_node,
        "training": gpu_pipeline.measure_training,
    }
    asked = [name for name in SECTIONS if name in given.only.split(",")]
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


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    return str(value).replace("|", "/")


if __name__ == "__main__":
    sys.exit(main())
