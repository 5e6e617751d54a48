# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Base of engines of fixed shapes: pads the inputs and reads the counts."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec
from occle_core.engines.base import EngineResult
from occle_core.engines.static.program import capacities_of, pad
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.protocol import NetworkInputs
from occle_core.occupancy import SparseLabels
from occle_core.taxonomy import load as load_taxonomy


class StaticEngine(ABC):
    """An engine that runs a `Program`.

    Args:
        spec: the bundle's spec, with capacities.
        precision: one of `occle_core.engines.loading.PRECISIONS`.
    """

    name: str
    device: str
    reason = ""

    def __init__(self, spec: BundleSpec, precision: str) -> None:
        self.precision = precision
        self.capacities = capacities_of(spec)
        self._free = load_taxonomy(spec.taxonomy).free
        self._spec = spec
        self._one_at_a_time = threading.Lock()  # for runtimes that allow no more

    def run(self, inputs: NetworkInputs) -> EngineResult:
        """Predict one frame; timings: "pad" and "network"."""
        started = time.perf_counter()
        padded = pad(self._spec, inputs, self.capacities)
        ready = time.perf_counter()
        sparse, counts = self._infer(padded)
        done = time.perf_counter()
        sets = self.capacities.sets
        counted = {name: int(count) for name, count in zip(sets, counts, strict=True)}
        # What the padding left out was never counted by the program.
        counted |= inputs.sizes
        room = {"points": self.capacities.points, **sets}
        overflow = {name: count - room[name] for name, count in counted.items() if count > room[name]}
        timings = {"pad": (ready - started) * 1e3, "network": (done - ready) * 1e3}
        return EngineResult(sparse, overflow, counted, timings)

    @abstractmethod
    def _infer(self, arrays: Arrays) -> tuple[SparseLabels, NDArray[np.int32]]:
        """The program's inputs by name, in its order -> its labels with their confidence, and counts; the caller's own."""
