# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The protocol of inference engines, and their result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from occle_core.networks.protocol import NetworkInputs
from occle_core.occupancy import SparseLabels


@dataclass
class EngineResult:
    """Labels and confidence of one frame, with overflow counts and timings.

    Attributes:
        sparse: the cells that are not free, with the network's class ids and softmax probabilities.
        overflow: cells (or points) that did not fit the static form's capacities, per table, without zeros.
        counts: cells (or points) that each table of the static form had to hold; empty for engines without it.
        timings: milliseconds per stage.
    """

    sparse: SparseLabels
    overflow: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 class ids."""
        return self.sparse.labels

    @property
    def confidence(self) -> NDArray[np.float16]:
        """(X, Y, Z) float16, the class's softmax probability, 0 where free."""
        return self.sparse.confidence


class Engine(Protocol):
    """Runs a network on one frame at a time.

    Attributes:
        name: one of `occle_core.engines.loading.ENGINE_NAMES`, never "auto".
        precision: "fp32", "fp16" or "int8".
        device: what it runs on.
        reason: why this engine was chosen; empty when it was asked for.
    """

    name: str
    precision: str
    device: str
    reason: str

    def run(self, inputs: NetworkInputs) -> EngineResult:
        """Predict one frame (batch size 1); several threads may call it at the same time."""
        ...


def describe(engine: Engine) -> str:
    """One line for logs and diagnostics: "openvino fp32 on CPU (chosen: ...)"."""
    return f"{engine.name} {engine.precision} on {engine.device}" + (f" ({engine.reason})" if engine.reason else "")
