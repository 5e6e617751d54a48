# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rows that a network's tables need, measured on frames."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from occle_core.networks.protocol import Network, NetworkInputs


def measure(network: Network, frames: Iterable[NetworkInputs]) -> dict[str, list[int]]:
    """Measured table rows of single frames: per name of a table ("points" and the network's sets), a count per frame."""
    found: dict[str, list[int]] = {"points": [], **{name: [] for name in network.set_names}}
    with torch.inference_mode():
        for inputs in frames:
            found["points"].append(inputs.sizes["points"])
            for name, count in network.set_counts(inputs).items():
                found[name].append(count)
    return found


def limits_of(network: Network, max_points: int) -> dict[str, int]:
    """The most that each table can need: all cells of its level, `max_points` in every voxel."""
    cells = network.shape[0] * network.shape[1] * network.shape[2]
    return {"points": cells * max_points, **{name: cells // 8**level for name, level in network.set_names.items()}}
