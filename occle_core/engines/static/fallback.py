# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Two programs of one network: a small one for typical frames, a large one for all."""

from __future__ import annotations

from occle_core.engines.base import Engine, EngineResult
from occle_core.networks.protocol import NetworkInputs

BACK = 0.95
"""The small program gets the next frame when this one would have filled no table of it more than so far."""


class FallbackEngine:
    """A small program for typical frames, and a large one for those that do not fit.

    On CPUs a static form costs what its capacities are, not what a frame needs. A frame that does not fit the small program is
    run again in the large one, so that labels never depend on which program came first.

    Args:
        small: engine of the typical capacities.
        large: engine of the bundle's capacities.
        room: rows of the small program's tables.
    """

    def __init__(self, small: Engine, large: Engine, room: dict[str, int]) -> None:
        self.name, self.precision, self.device, self.reason = large.name, large.precision, large.device, large.reason
        self._small, self._large, self._room = small, large, room
        self._typical = True

    def run(self, inputs: NetworkInputs) -> EngineResult:
        """Predict one frame; timings as the engine's, "rerun" for a frame that had to run twice."""
        tried = 0.0
        if self._typical:
            result = self._small.run(inputs)
            if not result.overflow:
                result.timings["rerun"] = 0.0
                return result
            tried = sum(result.timings.values())
        result = self._large.run(inputs)
        result.timings["rerun"] = tried
        self._typical = all(result.counts[name] <= BACK * rows for name, rows in self._room.items())
        return result
