"""How many rows the static form of a network needs: measured on frames, kept in the bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from pydantic import Field

from occle_core.config import Config
from occle_core.nn.networks import Network, NetworkInputs, set_counts

PERCENTILE, USUAL_PERCENTILE = 99.9, 75.0
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


def measure(network: Network, frames: Iterable[NetworkInputs]) -> dict[str, list[int]]:
    """What single frames need: per name of a table ("points" and the network's sets), a count per frame."""
    found: dict[str, list[int]] = {"points": [], **{name: [] for name in network.set_names}}
    with torch.inference_mode():
        for inputs in frames:
            found["points"].append(inputs.sizes["points"])
            for name, count in set_counts(network, inputs).items():
                found[name].append(count)
    return found


def choose(counts: Mapping[str, list[int]], limits: Mapping[str, int], percentile: float = PERCENTILE) -> Capacities:
    """Capacities that hold a percentile of the counts plus a tenth, at most what a full grid needs."""
    sizes = {}
    for name, limit in limits.items():
        wanted = float(np.percentile(counts[name], percentile)) * (1 + MARGIN)
        sizes[name] = min(limit, ROUND * -(-int(np.ceil(wanted)) // ROUND))
    points = sizes.pop("points")
    return Capacities(points=points, sets=sizes)


def limits_of(network: Network, max_points: int) -> dict[str, int]:
    """The most that each table can need: all cells of its level, `max_points` in every voxel."""
    cells = network.shape[0] * network.shape[1] * network.shape[2]
    return {"points": cells * max_points, **{name: cells // 8**level for name, level in network.set_names.items()}}
