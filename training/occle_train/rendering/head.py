# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""From predicted voxels to 2D class logits, for supervision by pseudo-labels (MinkOcc, Sze et al., Sec. IV-C and IV-D)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.geometry.grid import VoxelGrid
from occle_core.sparse import SparseTensor
from occle_train.data.views import BatchView
from occle_train.losses.minkocc import Total, soft_cross_entropy
from occle_train.rendering.shader import Shader
from occle_train.rendering.spheres import render_spheres

RADIUS = 0.5
"""Radius of a sphere at the start, cells: that of the ball within the cell's cube. Larger ones leave no holes between them, but
stick out of surfaces and take the pixels of what lies behind: seen from a car, spheres of 0.87 cells on the street hide the
sidewalk beside it (`benchmark/training/sphere_radius.py`)."""

OPACITY = 4.0
"""Logit of the opacity at the start. Opacity multiplies depth in the blending's exponent: it must start near 1 and even."""

NEAR = 0.3
"""Metres from the camera where rendering begins."""


class SphereHead(nn.Module):
    """Renders the class logits or the features of voxels as spheres with learnt radius and opacity, and shades the picture.

    A sphere's feature vector is its class logits by default, so that the 2D labels supervise the voxels' own classes. The paper
    renders features and supervises the shaded picture alone; a shader may exchange classes at will, though, and where no voxel is
    labelled nothing else would tie the voxels' classes to their meaning. By default half of the loss is on the picture before the
    shader.

    Flat surfaces lie in the middle of their cells, on average. Spheres with nothing above them sink by their radius, so that their
    tops are there; at their cells' centres they would hide from a car's cameras what lies behind
    (`benchmark/training/sphere_radius.py`).

    Args:
        num_classes: classes of the taxonomy, free included.
        free: id of the free class.
        grid: where the cells lie.
        gamma: see `render_spheres`.
        far: metres.
        width: channels of the shader's finest scale.
        channels: of the rendered features; None renders class logits, whose picture the shader corrects.
        sunken: whether spheres with nothing above them sink.
        unshaded: share of the loss on the picture before the shader; 0 with features.
        shows_free: whether the shader sees the free class's logit, which is then trained as one more feature.
    """

    def __init__(
        self,
        num_classes: int,
        free: int,
        grid: VoxelGrid,
        gamma: float,
        far: float,
        width: int,
        channels: int | None = None,
        sunken: bool = True,
        unshaded: float = 0.5,
        shows_free: bool = True,
    ) -> None:
        super().__init__()
        self.free, self.grid, self.gamma, self.far = free, grid, gamma, far
        self.channels, self.sunken, self.unshaded = channels, sunken, unshaded
        self.shows_free = shows_free or channels is not None
        self.shape = nn.Linear(channels or num_classes, 2)
        self.shader = Shader(channels or num_classes, num_classes, width)
        # All spheres start alike, and the shader, which corrects the picture, by leaving it as it is.
        same = () if channels else tuple(self.shader.head.parameters())
        for parameter in (*self.shape.parameters(), *same):
            nn.init.zeros_(parameter)

    def forward(
        self, classes: SparseTensor, occupancy: Tensor, views: Sequence[BatchView], features: SparseTensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Render.

        Args:
            classes: (N, C) logits on the cells that survived pruning.
            features: (N, d) features of the same cells, where they are rendered.
            occupancy: (B, X, Y, Z) uint8: cells that are 1 are rendered, those that are 0 are not, of the others those that are
                predicted to be of any class but free.
            views: at least one, all of one size.

        Returns:
            logits (V, C, H, W) before and after the shader; free's is so low that it takes no part. Rendered features are no
            logits: both are then the picture after the shader.
        """
        known = classes.at_cells(occupancy)
        solid = torch.where(known == 1, True, (known != 0) & (classes.features.detach().argmax(1) != self.free))
        rendered = classes if features is None or self.channels is None else features
        coords, values = rendered.coords[solid], rendered.features[solid].float()
        if not self.shows_free:
            values = values.index_fill(1, torch.tensor([self.free], device=values.device), 0)
        # Autocast would leave positions and depths the 8 bits of bfloat16.
        with torch.autocast(values.device.type, enabled=False):
            images = self._render(coords, values, views)
        picture = torch.stack(images)
        shaded = self.shader(picture) if self.channels else picture + self.shader(picture)
        plain = shaded if self.channels else picture
        visible = torch.ones(shaded.shape[1], device=shaded.device)
        visible[self.free] = 0
        hidden = (1 - visible).view(1, -1, 1, 1) * -1e4
        return plain + hidden, shaded + hidden

    def _render(self, coords: Tensor, values: Tensor, views: Sequence[BatchView]) -> list[Tensor]:
        """Images (C, H, W) of the cells (N, 4) with values (N, C) float32."""
        origin = torch.tensor(self.grid.origin, device=values.device)
        centers = (coords[:, 1:] + 0.5) * self.grid.resolution + origin
        form = self.shape(values)
        radii = RADIUS * self.grid.resolution * torch.exp(math.log(2) * torch.tanh(form[:, 0]))
        opacity = torch.sigmoid(form[:, 1] + OPACITY)
        if self.sunken:
            centers = centers - F.pad((radii * uncovered(coords, self.grid))[:, None], (2, 0))
        images = []
        for view in views:
            own = coords[:, 0] == view.frame
            size = (view.labels.shape[1], view.labels.shape[0])
            background = values.new_zeros(values.shape[1])
            spheres = (centers[own], values[own], radii[own], opacity[own])
            images.append(render_spheres(*spheres, view.camera, size, self.gamma, background, (NEAR, self.far)))
        return images

    def loss(
        self,
        classes: SparseTensor,
        occupancy: Tensor,
        views: Sequence[BatchView],
        weights: Tensor,
        total: Total,
        features: SparseTensor | None = None,
    ) -> Tensor:
        """Soft cross-entropy of the pseudo-labels (Eq. 5) before and after the shader, with class weights (C,)."""
        shares = [share for share in (1 - self.unshaded, self.unshaded) if share]
        if not views:
            for _ in shares:  # the other processes wait for this one's
                total(torch.zeros((), device=occupancy.device))
            return classes.features.sum() * 0
        labels = torch.stack([view.labels for view in views])
        confidence = torch.stack([view.confidence for view in views])
        plain, shaded = self(classes, occupancy, views, features)
        pictures = [picture for picture, share in ((shaded, 1 - self.unshaded), (plain, self.unshaded)) if share]
        losses = [
            share * soft_cross_entropy(picture, labels, confidence, total, weights) for picture, share in zip(pictures, shares)
        ]
        return torch.stack(losses).sum()


def uncovered(coords: Tensor, grid: VoxelGrid) -> Tensor:
    """(N,) bool: no other cell of coords (N, 4) lies right above."""
    count = int(coords[:, 0].max()) + 1 if len(coords) else 0
    x, y, z = grid.shape
    filled = torch.zeros(count, x, y, z + 1, dtype=torch.bool, device=coords.device)
    frame, i, j, k = coords.long().T
    filled[frame, i, j, k] = filled.new_ones(())  # True alone is uploaded to a GPU, which waits
    return ~filled[frame, i, j, k + 1]
