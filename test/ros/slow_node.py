# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The node with a network that takes as long as a file says (seconds) on any machine: `slow_node.py FILE ARGUMENTS`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from occle_core.predictor import Predictor
from occle_ros.node.process import main

if __name__ == "__main__":
    delay, predict = Path(sys.argv[1]), Predictor.predict

    def slowly(self: Predictor, *given: Any) -> Any:
        seconds = float(delay.read_text())
        if seconds > 1:
            print("at work", flush=True)
        time.sleep(seconds)
        return predict(self, *given)

    Predictor.predict = slowly
    sys.exit(main(["occle", *sys.argv[2:]]))
