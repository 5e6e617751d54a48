"""The two networks, and what the rest of the code asks of either in the same words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from occle_core import inputs as minkocc_inputs
from occle_core.config import NetworkConfig
from occle_core.frame import Frame
from occle_core.grid import VoxelGrid
from occle_core.inputs import Inputs
from occle_core.nn import minkocc, occle, occle_inputs
from occle_core.nn.minkocc import MinkOcc
from occle_core.nn.occle import OccLE
from occle_core.nn.occle_config import OccleConfig
from occle_core.nn.occle_inputs import OccleInputs

Network = MinkOcc | OccLE
NetworkInputs = Inputs | OccleInputs


def prepare(frames: Sequence[Frame], grid: VoxelGrid, config: NetworkConfig | OccleConfig) -> NetworkInputs:
    """What a network reads, on the CPU.

    Args:
        frames: the present frame, then those before it, newest first (see `History`); a network of one frame reads the first.
        grid: the voxels, in the present frame's grid frame.
        config: the network's sizes.

    Raises:
        FrameError: a frame is malformed, has more cameras than the network, or no point inside the grid.
    """
    if isinstance(config, NetworkConfig):
        return minkocc_inputs.prepare(frames[0], grid, config)
    # Only a frame that stands alone may lack its pose, and then any will do.
    poses = [np.eye(4) if frame.T_world_lidar is None else frame.T_world_lidar for frame in frames]
    return occle_inputs.prepare(frames, poses, grid, config)


def predict(
    network: Network, inputs: NetworkInputs, free: int, stage_done: Callable[[str], None] = lambda stage: None
) -> tuple[Tensor, Tensor]:
    """The eager network's labels.

    Args:
        network: in evaluation mode.
        inputs: a batch of the network's own kind.
        free: id of the free class.
        stage_done: called with the name of each finished stage, for timing.

    Returns:
        labels (B, X, Y, Z) uint8 and confidence (B, X, Y, Z) float16, 0 where free.
    """
    if isinstance(network, OccLE):
        return occle.label_grid(network(inputs, stage_done=stage_done), free)
    return minkocc.label_grid(network(inputs, stage_done=stage_done).classes, free)


def set_counts(network: Network, inputs: NetworkInputs) -> dict[str, int]:
    """How many rows each set of `network.set_names` needs in the static form, for one sample."""
    if isinstance(network, MinkOcc):
        return dict(zip(network.set_names, network(inputs).classes.coordinates.counts, strict=True))
    assert isinstance(inputs, OccleInputs)
    cells = network.cells(inputs)
    network.semantics(inputs, cells)
    network.geometry(inputs, cells)
    # Scans share their number of rows: each has as many as the largest needs.
    largest = max(len(scan.coords) for scan in inputs.scans)
    counts = dict(zip(network.set_names, cells[0].counts, strict=True))
    return {name: largest if name in inputs.sizes else count for name, count in counts.items()}
