# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The protocol of a network: what bundles, engines, predictor and tools ask of it, whichever it is.

A new network is a folder beside `minkocc` and `occle` with a subclass of `Network`, and a line in `registry.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.capacities import Capacities

Size = Literal["tiny", "small", "base"]
RigName = Literal["kitti", "nuscenes", "kitti360"]
Self = TypeVar("Self", bound="NetworkInputs")


class NetworkConfig(Protocol):
    """Sizes of a network; a frozen pydantic model."""

    @property
    def kind(self) -> str:
        """Name of the network in `registry.NETWORKS`."""

    @property
    def num_cameras(self) -> int:
        """Images of a frame."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) that images are resized to."""

    @property
    def num_frames(self) -> int:
        """Frames that the network sees, the present one included."""

    @property
    def frame_stride(self) -> int:
        """It sees each n-th of the frames before the present one."""

    @property
    def reads_sweeps(self) -> bool:
        """Whether it reads nothing but the points of the frames before the present one, and so scans between frames as well."""

    @property
    def needs_images(self) -> bool:
        """Whether a frame without any image is beyond what it was made for."""

    @property
    def max_points(self) -> int:
        """Points kept per voxel."""

    @property
    def levels(self) -> int:
        """Number of times the network halves the grid: its shape has to be divisible by 2**levels."""


class NetworkInputs(Protocol):
    """A batch of prepared frames."""

    @property
    def batch_size(self) -> int:
        """Number of samples."""

    @property
    def sizes(self) -> dict[str, int]:
        """Points and voxels, under the names of the static form's tables."""

    def map(self: Self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same inputs with a function applied to each tensor, in a fixed order."""

    def to(self: Self, device: torch.device | str) -> Self:
        """The same tensors on another device."""


class Program(nn.Module):
    """A network as one program of fixed shapes, for one sample: arrays of `INPUTS` in; labels, confidence and counts out."""

    INPUTS: ClassVar[tuple[str, ...]]
    capacities: Capacities
    free: int

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes without any voxel, to trace with."""


class Network(nn.Module):
    """A network from sensors to a label grid. Its `forward` is its own; training code knows which network it trains."""

    config_class: ClassVar[type]
    """The pydantic model of its sizes."""
    program_class: ClassVar[type[Program]]
    """The network's static form, a `Program`."""

    @classmethod
    @abstractmethod
    def build(cls, config: Any, num_classes: int, grid: VoxelGrid) -> Network:
        """The network with fresh weights.

        Args:
            config: an instance of `config_class`.
            num_classes: classes of the taxonomy, free included.
            grid: the voxels to predict.
        """

    @staticmethod
    @abstractmethod
    def preset(size: Size, rig: RigName) -> tuple[NetworkConfig, int]:
        """The configuration of a size for a rig, and how many of the data set's cells an edge of its grid's cells spans."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Cells of the grid along x, y, z."""

    @property
    @abstractmethod
    def set_names(self) -> Mapping[str, int]:
        """Names of the sets of cells that the network makes, in order, and their levels, 0 the finest."""

    @staticmethod
    @abstractmethod
    def prepare(frames: Sequence[Frame], grid: VoxelGrid, config: Any) -> Any:
        """The network's inputs for one sample, on the CPU.

        Args:
            frames: the present frame, then those before it, newest first (see `History`); a network of one frame reads the first.
            grid: the voxels, in the present frame's grid frame.
            config: an instance of `config_class`.

        Raises:
            FrameError: a frame is malformed, has more cameras than the network, or no point inside the grid.
        """

    @abstractmethod
    def label_grid(self, inputs: Any, free: int, stage_done: Callable[[str], None] = lambda stage: None) -> tuple[Tensor, Tensor]:
        """Predict a batch, eagerly; the network is in evaluation mode.

        Args:
            inputs: as `prepare` makes them.
            free: id of the free class.
            stage_done: called with the name of each finished stage, for timing.

        Returns:
            labels (B, X, Y, Z) uint8 and confidence (B, X, Y, Z) float16, 0 where free.
        """

    @abstractmethod
    def set_counts(self, inputs: Any) -> dict[str, int]:
        """Rows that each set of `set_names` needs in the static form, for one sample."""

    @abstractmethod
    def program(self, capacities: Capacities, free: int, center: tuple[float, float]) -> Program:
        """The static form; it holds a copy of the network with folded batch norms.

        Args:
            capacities: rows of all tables.
            free: id of the free class.
            center: where the sensor is in the grid, x and y in cells.
        """

    @staticmethod
    @abstractmethod
    def pad(inputs: Any, capacities: Capacities, center: tuple[float, float]) -> Arrays:
        """One sample's inputs in the program's shapes, by name in the order of its arguments.

        The farthest voxels and points are left out where they do not fit.

        Args:
            inputs: of one sample.
            capacities: of the program.
            center: where the sensor is in the grid, x and y in cells.
        """
