# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The process that measures engines for another one: `python -m occle_core.engines.timing_process FOLDER`, see `timing`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from occle_core.bundle import BundleSpec
from occle_core.engines.base import Engine
from occle_core.engines.choice.timing import SPEC, TIMES, USE, WEIGHTS, frame_times, synthetic
from occle_core.engines.loading import load_engine


def main(home: Path) -> None:
    """Load the engines that the folder names, and leave their times there."""
    spec = BundleSpec.model_validate_json((home / SPEC).read_text(encoding="utf-8"))
    network = spec.build().eval()
    network.load_state_dict(torch.load(home / WEIGHTS, weights_only=True))
    use = json.loads((home / USE).read_text(encoding="utf-8"))
    folder = Path(use["folder"]) if use["folder"] else None

    def load(name: str) -> Engine:
        return load_engine(spec, network, folder, name, use["precision"], use["threads"], max_concurrent=use["max_concurrent"])

    engines = {name: load(name) for name in use["names"]}
    times = frame_times(engines, synthetic(spec), use["max_concurrent"])
    (home / TIMES).write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
