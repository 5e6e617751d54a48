# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Registry of the networks by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.networks.occle.network import OccLE
from occle_core.networks.protocol import Network, NetworkConfig

NETWORKS: dict[str, type[Network]] = {"minkocc": MinkOcc, "occle": OccLE}


def network_class(config: NetworkConfig) -> type[Network]:
    """The network that a configuration describes."""
    return NETWORKS[config.kind]


def prepare(frames: Sequence[Frame], grid: VoxelGrid, config: NetworkConfig) -> Any:
    """Frames -> the inputs of the network that a configuration describes; see `Network.prepare`."""
    return network_class(config).prepare(frames, grid, config)
