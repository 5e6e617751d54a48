# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Isotonic regression, by which probabilities are calibrated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def isotonic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing (N,) sequence nearest to `values` in weighted least squares: pool adjacent violators."""
    pools: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist()):
        pools.append([value, weight, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, more, length = pools.pop()
            held = pools[-1]
            held[0] = (held[0] * held[1] + mean * more) / (held[1] + more)
            held[1] += more
            held[2] += length
    return np.repeat([pool[0] for pool in pools], [int(pool[2]) for pool in pools])
