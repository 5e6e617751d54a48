# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Calibrated probabilities: what a network's confidence is worth, as measured on held-out frames."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from occle_core.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]


class Calibration(Config):
    """Two monotone curves over the confidence of cells that are called occupied, and one number for those called free."""

    confidence: tuple[Probability, ...] = Field(min_length=2, description="the curves' knots, ascending: softmax probability")
    occupied: tuple[Probability, ...] = Field(description="how often such a cell is occupied, at every knot")
    correct: tuple[Probability, ...] = Field(description="how often such a cell is of the named class, at every knot")
    free: Probability = Field(description="how often a cell that is called free is occupied")

    @model_validator(mode="after")
    def _check(self) -> Calibration:
        if not len(self.confidence) == len(self.occupied) == len(self.correct):
            raise ValueError("confidence, occupied and correct must have one number per knot")
        if any(b <= a for a, b in zip(self.confidence, self.confidence[1:])):
            raise ValueError("confidence must ascend")
        return self

    def apply(self, scores: NDArray[np.float16]) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
        """Softmax probability of the class in cells that are called occupied, (N,) float16 -> that it is right, of occupancy."""
        bits = scores.view(np.uint16)
        return _curve(self.confidence, self.correct)[bits], _curve(self.confidence, self.occupied)[bits]


@lru_cache(maxsize=16)
def _curve(knots: tuple[float, ...], values: tuple[float, ...]) -> NDArray[np.float16]:
    """(65536,) a curve at every float16, by its bits: a frame has many cells, and interpolating them takes milliseconds."""
    return np.interp(np.arange(1 << 16, dtype=np.uint16).view(np.float16), knots, values).astype(np.float16)
