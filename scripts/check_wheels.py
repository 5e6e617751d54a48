#!/usr/bin/env python3
# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Check that every package which the demo needs has a wheel for a platform: `pip download` of the exact versions, one by one.

scripts/check_wheels.py --arch aarch64 --python 3.10 3.12          # a table; exit code 1 where one is missing
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MANYLINUX = (17, 24, 27, 28, 31, 34, 35)
CONSTRAINTS = {"3.10": "humble", "3.11": "pip", "3.12": "jazzy", "3.14": "lyrical"}


def pins(python: str) -> list[str]:
    """Exact requirements of the distribution with this Python; markers are evaluated for it."""
    found = []
    for line in (ROOT / "constraints" / f"{CONSTRAINTS[python]}.txt").read_text("utf-8").splitlines():
        requirement, _, marker = line.partition(";")
        if requirement and not requirement.startswith("#") and _holds(marker, python):
            found.append(requirement.strip())
    return found


def has_wheel(requirement: str, python: str, arch: str) -> bool:
    """Whether pip finds a wheel of the requirement for a Python on Linux."""
    platforms = [word for minor in MANYLINUX for word in ("--platform", f"manylinux_2_{minor}_{arch}")]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    target += ["--platform", f"manylinux2014_{arch}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*pip, *target, "--dest", folder, requirement], capture_output=True, check=False)
    return done.returncode == 0


def _holds(marker: str, python: str) -> bool:
    """Whether a marker on python_version holds; other markers do."""
    found = re.search(r"python_version\s*(<|>=)\s*'(\d+)\.(\d+)'", marker)
    if not found:
        return True
    own, other = tuple(map(int, python.split("."))), (int(found[2]), int(found[3]))
    return own < other if found[1] == "<" else own >= other


def main() -> int:
    """Command line; 1 where a wheel is missing that the demo needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="aarch64", choices=("aarch64", "x86_64"))
    parser.add_argument("--python", nargs="*", default=["3.10", "3.12"], choices=tuple(CONSTRAINTS))
    parser.add_argument("--skip", nargs="*", default=["torch", "embreex", "nncf"], help="packages that are not looked for")
    given = parser.parse_args()
    wanted = [(pin, python) for python in given.python for pin in pins(python) if pin.split("==")[0] not in given.skip]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: has_wheel(one[0], one[1], given.arch), wanted))
    missing = [f"{pin} (Python {python})" for (pin, python), there in zip(wanted, found) if not there]
    print(
        f"{given.arch}: {len(wanted) - len(missing)} of {len(wanted)} wheels exist" + "".join(f"\n  missing: {m}" for m in missing)
    )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
