# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Capacities: how many rows the tables of a network's static form have. Kept in the bundle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from occle_core.config import Config

PERCENTILE, TYPICAL_PERCENTILE = 99.9, 75.0
MARGIN = 0.1
ROUND = 64


class Capacities(Config):
    """Rows of the tables of a network's static form; more than the network can use does no harm but costs time."""

    points: int = Field(ge=1, description="points kept by the voxelisation")
    sets: dict[str, int] = Field(description="rows of each set of cells, in the order in which the network makes them")

    @property
    def voxels(self) -> int:
        """Rows of the network's input."""
        return next(iter(self.sets.values()))


def choose_capacities(counts: Mapping[str, list[int]], limits: Mapping[str, int], percentile: float = PERCENTILE) -> Capacities:
    """Capacities that hold a percentile of the counts plus a tenth, at most what a full grid needs."""
    sizes = {}
    for name, limit in limits.items():
        wanted = float(np.percentile(counts[name], percentile)) * (1 + MARGIN)
        sizes[name] = min(limit, ROUND * -(-int(np.ceil(wanted)) // ROUND))
    points = sizes.pop("points")
    return Capacities(points=points, sets=sizes)
