# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page of the shipped networks: `python -m benchmark.model_page` writes docs/reports/models.md and its pictures.

Every bundle is scored on simulated validation drives, which are made where they are missing, and on real frames where there are
some; as they are, and without images. Engines are timed one after the other, each in a process of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.engines.networks import RIGS
from benchmark.machine import machine, real_data
from benchmark.model_page.models import measure
from benchmark.model_page.text import page_of
from occle_core.atomic_file import atomic_write

ENGINES = ("torch", "native", "onnxruntime", "openvino")


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, draw, time, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.model_page", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/models"), help="simulated drives, kept")
    parser.add_argument("--page", type=Path, default=Path("docs/reports/models.md"), help="pictures go to images/ beside it")
    parser.add_argument("--real", type=Path, default=real_data() / "semantickitti" / "dataset", help="SemanticKITTI, where it is")
    parser.add_argument("--bundles", default=",".join(RIGS), help="comma-separated names of shipped bundles")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated; empty: none is timed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    models = [measure(name, given) for name in given.bundles.split(",")]
    given.page.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(given.page) as file:
        file.write_text(page_of(models, machine(given.threads)), "utf-8")
    print(f"wrote {given.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
