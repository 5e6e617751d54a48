"""What engines of fixed shapes share: padding the inputs and reading the counts."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec
from occle_core.capacities import Capacities
from occle_core.engines.base import EngineError, Result
from occle_core.engines.program import pad, sensor_cell
from occle_core.inputs import Inputs


class StaticEngine(ABC):
    """An engine that runs a `Program`.

    Args:
        spec: the bundle's spec, with capacities.
    """

    name: str
    device: str
    reason = ""

    def __init__(self, spec: BundleSpec, precision: str) -> None:
        self.precision = precision
        self.capacities = capacities_of(spec)
        self._center = sensor_cell(spec)
        self._one_at_a_time = threading.Lock()  # for runtimes that allow no more

    def run(self, inputs: Inputs) -> Result:
        """Predict one frame; timings: "pad" and "network"."""
        started = time.perf_counter()
        padded = pad(inputs, self.capacities, self._center)
        ready = time.perf_counter()
        labels, confidence, counts = self._infer(padded.arrays)
        done = time.perf_counter()
        sets = self.capacities.sets
        counted = {"points": len(inputs.points), **{name: int(count) for name, count in zip(sets, counts, strict=True)}}
        # What the padding left out was never counted by the program.
        counted[next(iter(sets))] = len(inputs.coords)
        room = {"points": self.capacities.points, **sets}
        overflow = {name: count - room[name] for name, count in counted.items() if count > room[name]}
        timings = {"pad": (ready - started) * 1e3, "network": (done - ready) * 1e3}
        return Result(labels[0], confidence[0], overflow, counted, timings)

    @abstractmethod
    def _infer(self, arrays: dict[str, NDArray[np.generic]]) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.int32]]:
        """The program's inputs by name -> its outputs, labels, confidence, counts; the arrays are the caller's own."""


def capacities_of(spec: BundleSpec) -> Capacities:
    """The bundle's capacities.

    Raises:
        EngineError: it has none.
    """
    if spec.capacities is None:
        raise EngineError(
            f"the bundle {spec.name} was never calibrated for engines of fixed shapes; run "
            "`occle-train export BUNDLE --data DATASET` on frames of your sensors, or use engine: torch"
        )
    return spec.capacities
