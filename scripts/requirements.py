#!/usr/bin/env python3
# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Requirements of the package as setup.py names them, one a line: for installers that leave some of them to the system.

scripts/requirements.py --extras engines,train --without opencv-python-headless torch --output requirements.txt
"""

from __future__ import annotations

import argparse
import re
import runpy
from pathlib import Path


def requirements(extras: list[str], without: list[str]) -> list[str]:
    """Requirement lines of the package and of some extras.

    Args:
        extras: names of setup.py's EXTRAS.
        without: distributions that are left out.

    Raises:
        KeyError: there is no such extra.
    """
    values = runpy.run_path(str(Path(__file__).resolve().parents[1] / "setup.py"), run_name="requirements")
    lines = [*values["CORE"], *(line for extra in extras for line in values["EXTRAS"][extra])]
    return [line for line in lines if re.split(r"[\s;=<>!~\[]", line)[0] not in without]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="names, separated by commas")
    parser.add_argument("--without", nargs="*", default=[], help="distributions that are left out")
    parser.add_argument("--output", type=Path, help="file to write; default: standard output")
    given = parser.parse_args()
    text = "\n".join(requirements([name for name in given.extras.split(",") if name], given.without)) + "\n"
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
