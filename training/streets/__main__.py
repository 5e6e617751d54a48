"""`python -m occle_train.streets OUT`: simulate drives from the command line."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from occle_train.streets.simulate import simulate


def main() -> int:
    """Parse the arguments, simulate, and say what was written."""
    parser = argparse.ArgumentParser(
        prog="python -m occle_train.streets", description="Simulate street drives in a data set's layout."
    )
    parser.add_argument("out", type=Path, help="dataset folder to write into")
    parser.add_argument("--rig", choices=("kitti", "nuscenes"), default="kitti")
    parser.add_argument("--drives", type=int, default=2, help="how many drives")
    parser.add_argument("--first", type=int, default=0, help="number of the first drive")
    parser.add_argument("--frames", type=int, default=20, help="frames per drive")
    parser.add_argument("--seed", type=int, default=1, help="chooses the streets")
    parser.add_argument("--scale", type=float, default=0.5, help="image size relative to the real cameras'")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--every", type=int, default=1, help="write each n-th frame only")
    given = parser.parse_args()
    start = time.monotonic()

    def show(done: int, total: int) -> None:
        print(f"\r{done}/{total} frames, {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True)

    numbers = range(given.first, given.first + given.drives)
    try:
        names = simulate(given.out, given.rig, numbers, given.frames, given.seed, given.scale, given.workers, show, given.every)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\nwrote {', '.join(names)} into {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
