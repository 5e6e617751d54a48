"""OccLE (Fang et al., Label-Efficient 3D Semantic Occupancy Prediction): two decoupled branches and their fusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from occle_core.grid import VoxelGrid
from occle_core.nn.lift import grid_centers
from occle_core.nn.minkocc import IMAGE_MEAN, IMAGE_STD, decide
from occle_core.nn.occle_config import FEATURE_STRIDE, OccleConfig
from occle_core.nn.occle_fusion import Fusion
from occle_core.nn.occle_geometric import GeometricBranch
from occle_core.nn.occle_inputs import OccleInputs
from occle_core.nn.occle_semantic import SemanticBranch, Semantics
from occle_core.sparse.coordinates import Coordinates


class OccLE(nn.Module):
    """The whole network. Training calls its branches one by one; inference calls the network, which needs sensors only.

    Args:
        config: sizes.
        num_classes: classes of the taxonomy, free included.
        grid: the voxels to predict.

    Raises:
        ValueError: the grid's or the images' sizes are no multiples of 8, which is what both UNets divide them by.
    """

    image_mean: Tensor
    image_std: Tensor
    centers: Tensor

    def __init__(self, config: OccleConfig, num_classes: int, grid: VoxelGrid) -> None:
        super().__init__()
        if config.width % 8 or config.height % 8:
            raise ValueError(f"OccLE's images need sizes that are multiples of 8, not {config.width}x{config.height}")
        if any(n % 8 for n in grid.shape):
            raise ValueError(f"OccLE's grid needs sizes that are multiples of 8, not {grid.shape}")
        self.config, self.grid = config, grid
        features = grid.coarser(FEATURE_STRIDE)
        for name, values in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.register_buffer("centers", grid_centers(features), persistent=False)
        self.semantic = SemanticBranch(config, num_classes)
        self.geometric = GeometricBranch(config, features.shape)
        self.fusion = Fusion(config, num_classes, features.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells of the grid along x, y, z."""
        return self.grid.shape

    @property
    def set_names(self) -> dict[str, int]:
        """Names of the sets of cells that `forward` makes, in order, and their levels, 0 the finest."""
        frames = range(self.config.frames)
        names = {f"voxels.{frame}": 0 for frame in frames} | {f"semantic.{level}": level for level in (1, 2, 3)}
        return names | {f"geometric.{frame}": 1 for frame in frames}

    def forward(
        self,
        inputs: OccleInputs,
        coordinates: Sequence[Coordinates] | None = None,
        stage_done: Callable[[str], None] = lambda stage: None,
    ) -> Tensor:
        """Predict.

        Args:
            inputs: a batch.
            coordinates: the scans' voxels in their static form; None makes the dynamic ones.
            stage_done: called with the name of each finished stage, for timing.

        Returns:
            (B, classes, X, Y, Z) logits.
        """
        cells = self.cells(inputs) if coordinates is None else coordinates
        semantic = self.semantics(inputs, cells).grid
        stage_done("semantic")
        geometric = self.geometry(inputs, cells)
        stage_done("geometric")
        logits: Tensor = self.fusion.logits(self.fusion(semantic, geometric))
        stage_done("fusion")
        return logits

    def cells(self, inputs: OccleInputs) -> list[Coordinates]:
        """The voxels of each frame's scan, which write all sets made from them into one list of counts."""
        counts: list[int] = []
        found = []
        for scan in inputs.scans:
            cells = Coordinates.from_coords(scan.coords, self.grid.shape, inputs.batch_size)
            counts.extend(cells.counts)
            cells.counts = counts
            found.append(cells)
        return found

    def semantics(self, inputs: OccleInputs, cells: Sequence[Coordinates]) -> Semantics:
        """The semantic branch on the present frame."""
        images = self._normalised(inputs.images[:, 0])
        out: Semantics = self.semantic(images, inputs.projections[:, 0], inputs.scans[0], cells[0], self.centers)
        return out

    def geometry(self, inputs: OccleInputs, cells: Sequence[Coordinates]) -> Tensor:
        """(B, C, X, Y, Z) the geometric branch's feature grid."""
        images = self._normalised(inputs.images)
        out: Tensor = self.geometric(images, inputs.projections, inputs.scans, cells, self.centers)
        return out

    def _normalised(self, images: Tensor) -> Tensor:
        """(..., H, W, 3) uint8 -> (..., 3, H, W) float."""
        # Contiguous: with torch 2.13, narrow ResNets corrupt memory in the backward pass of channels-last images.
        return (images.movedim(-1, -3).float().contiguous() - self.image_mean) / self.image_std


def label_grid(logits: Tensor, free: int) -> tuple[Tensor, Tensor]:
    """Labels (B, X, Y, Z) uint8 and confidence (B, X, Y, Z) float16, 0 where free, of logits (B, classes, X, Y, Z)."""
    label, confidence = decide(logits, free)
    return label.to(torch.uint8), confidence.to(torch.float16)
