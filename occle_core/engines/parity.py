# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parity gate: an engine's labels must agree with those of eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from occle_core.engines.base import Engine
from occle_core.networks.protocol import NetworkInputs

LIMITS = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}
"""Least share of equal labels, per precision, of the cells that either calls occupied."""
EXACT = 0.9999
"""The same of all cells, for fp32."""


@dataclass
class Parity:
    """Agreement of an engine with the reference.

    Attributes:
        frames: frames compared.
        cells: cells compared.
        different: cells whose labels differ.
        occupied: cells that either calls occupied.
        confidence: largest difference of confidence where the labels agree.
        overflowed: frames with cells that did not fit the engine's capacities; these are compared as they are.
    """

    frames: int = 0
    cells: int = 0
    different: int = 0
    occupied: int = 0
    confidence: float = 0.0
    overflowed: int = 0

    @property
    def agreement(self) -> float:
        """Share of the cells with equal labels."""
        return 1 - self.different / max(1, self.cells)

    @property
    def occupied_agreement(self) -> float:
        """Share of the cells with equal labels among those that either calls occupied."""
        return 1 - self.different / max(1, self.occupied)

    def passes(self, precision: str) -> bool:
        """True if frames were compared and the agreement is within the precision's limit."""
        exact = precision != "fp32" or self.agreement >= EXACT
        return self.frames > 0 and exact and self.occupied_agreement >= LIMITS[precision]


def compare(engine: Engine, reference: Engine, frames: Iterable[NetworkInputs], free: int) -> Parity:
    """Run both on frames.

    Args:
        engine: what is examined.
        reference: what is right, such as the eager engine.
        frames: one frame's inputs each.
        free: the class of cells where nothing is.
    """
    parity = Parity()
    for inputs in frames:
        found, right = engine.run(inputs), reference.run(inputs)
        equal = found.labels == right.labels
        parity.frames += 1
        parity.cells += equal.size
        parity.different += int((~equal).sum())
        parity.occupied += int(((found.labels != free) | (right.labels != free)).sum())
        gap = np.abs(found.confidence.astype(np.float32) - right.confidence.astype(np.float32))[equal]
        parity.confidence = max(parity.confidence, float(gap.max(initial=0.0)))
        parity.overflowed += bool(found.overflow)
    return parity
