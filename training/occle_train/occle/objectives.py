# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Objectives of the training phases (OccLE, Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.networks.occle.inputs import OccleInputs
from occle_core.networks.occle.lift import lift_labels
from occle_core.networks.occle.network import OccLE
from occle_core.taxonomy import IGNORE
from occle_train.data.samples import SOLID
from occle_train.losses.occle import geometric_scale_loss, occupancy_loss, semantic_scale_loss, weighted_cross_entropy
from occle_train.occle.distillation import merge_targets
from occle_train.process_group import ALONE, ProcessGroup


@dataclass
class OccleBatch:
    """Inputs and targets of a training step.

    Attributes:
        inputs: the network's.
        labels: (B, V, H, W) uint8 aligned pseudo-labels of the present images at the network's image size, 255 unlabelled.
        truth: (B, X, Y, Z) uint8 voxel annotations; 255 unknown, and everywhere for frames without annotation.
        teacher_labels: (B, X, Y, Z) uint8 the teacher's geometry, 0 free, 1 occupied, 255 unsure; only students have one.
        evidence: (B, 2, X, Y, Z) uint8 what scans and pixels say of the cells, see `ScanEvidence`; None where it is not asked for.
        voxel_targets: (B, X, Y, Z) uint8 what frames without annotation learn of it, see `evidence_targets` and
            `SelfTraining.targets`.
    """

    inputs: OccleInputs
    labels: Tensor
    truth: Tensor
    teacher_labels: Tensor | None = None
    evidence: Tensor | None = None
    voxel_targets: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> OccleBatch:
        """The same batch with a function applied to each tensor."""
        more = (None if volume is None else function(volume) for volume in (self.teacher_labels, self.evidence, self.voxel_targets))
        return OccleBatch(self.inputs.map(function), function(self.labels), function(self.truth), *more)

    def pin_memory(self) -> OccleBatch:
        """The same in pinned memory, from which a GPU copies while the CPU continues; called by the DataLoader."""
        return self.map(Tensor.pin_memory)

    def to(self, device: str) -> OccleBatch:
        """The same tensors on another device; out of pinned memory without waiting."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class Weights:
    """Class weights of the weighted cross-entropies, from class frequencies (see `frequency_weights`).

    Attributes:
        pixels: (classes,) of the pseudo-labels.
        voxels: (classes,) of the annotated voxels.
        geometry: (2,) of free and occupied voxels.
        free: id of the free class.
    """

    pixels: Tensor
    voxels: Tensor
    geometry: Tensor
    free: int


def semantic_loss(network: OccLE, batch: OccleBatch, weights: Weights, group: ProcessGroup = ALONE) -> dict[str, Tensor]:
    """l_sem: cross-entropy of the 2D header on the pseudo-labels, l_occ of the 3D header on the pseudo-labels lifted to voxels.

    (Eq. 6 prints S in both terms; the 2D header has no loss then, so its first term is read as that of s.)
    """
    semantics = network.semantics(batch.inputs, network.cells(batch.inputs))
    return _semantic_terms(network, semantics.image, network.semantic.lidar_logits(semantics).features, batch, weights, group)


def geometric_loss(network: OccLE, batch: OccleBatch, weights: Weights, group: ProcessGroup = ALONE) -> dict[str, Tensor]:
    """l_geo: weighted cross-entropy of the geometry G on the annotations and, for a student, on what the teacher is sure of."""
    logits = network.geometric.logits(network.geometry(batch.inputs, network.cells(batch.inputs)))
    target = occupancy_of(batch.truth, weights.free)
    if batch.teacher_labels is not None:
        target = merge_targets(target, batch.teacher_labels)
    return {"geometry": weighted_cross_entropy(logits, target, weights.geometry, group=group)}


def fusion_loss(
    network: OccLE,
    batch: OccleBatch,
    weights: Weights,
    without: Collection[str] = (),
    stride: int = 4,
    weighted: bool = False,
    group: ProcessGroup = ALONE,
) -> dict[str, Tensor]:
    """l_fus + l_sem: l_occ of the prediction Y on the annotations, cross-entropy of its projection y on the pseudo-labels.

    Where frames without annotation have targets of their own, l_occ on these joins as "voxel_pseudo_labels", not the paper's.

    Args:
        network, batch, weights: see above.
        without: modules of Table 6 whose terms are left out (0); the geometric branch is frozen unless it is one of them.
        stride: pixels of the network's image per pixel of the projection, along each axis.
        weighted: whether near cells weigh more in the projection (Table D.5).
        group: the processes that share the batch; the terms are this process's part.
    """
    cells = network.cells(batch.inputs)
    semantics = network.semantics(batch.inputs, cells)
    with torch.set_grad_enabled("geometric" in without):
        geometric = network.geometry(batch.inputs, cells)
    fused = network.fusion(semantics.grid, geometric)
    zero = torch.zeros((), device=fused.device)
    terms = {"occupancy": zero, "projection": zero, "image": zero, "lidar": zero}
    if "annotations" not in without or batch.voxel_targets is not None:
        logits = network.fusion.logits(fused)
        if "annotations" not in without:
            terms["occupancy"] = occupancy_loss(logits, batch.truth, weights.voxels, weights.free, group=group)
        if batch.voxel_targets is not None:
            terms["voxel_pseudo_labels"] = pseudo_label_loss(logits, batch.voxel_targets, weights, group)
    if "projection" not in without:
        near = nearness(batch.inputs.projections[:, 0], network.centers).view(-1, 1, *fused.shape[2:]) if weighted else None
        terms["projection"] = _projection_loss(network, fused if near is None else fused * near, batch, weights, stride, group)
    if "semantic" not in without:
        lidar = network.semantic.lidar_logits(semantics).features
        terms |= _semantic_terms(network, semantics.image, lidar, batch, weights, group)
    return terms


def pseudo_label_loss(logits: Tensor, target: Tensor, weights: Weights, group: ProcessGroup = ALONE) -> Tensor:
    """l_occ on targets (B, X, Y, Z) of which SOLID cells count for the geometry alone."""
    classes = torch.where(target == SOLID, IGNORE, target)
    scales = semantic_scale_loss(logits, classes, group=group) + geometric_scale_loss(
        logits, target, free=weights.free, group=group
    )
    return weighted_cross_entropy(logits, classes, weights.voxels, group=group) + scales


def lifted_labels(network: OccLE, batch: OccleBatch) -> Tensor:
    """(N,) uint8 Eq. 2's labels of the present scan's voxels; 255 where no pixel has one, or at most one point lies inside."""
    scan = batch.inputs.scans[0]
    origin = torch.tensor(network.grid.origin, device=scan.coords.device)
    centers = origin + (scan.coords[:, 1:] + 0.5) * network.grid.resolution
    out = torch.full((len(centers),), IGNORE, dtype=torch.uint8, device=centers.device)
    for number in range(batch.inputs.batch_size):
        rows = scan.coords[:, 0] == number
        view = slice(number, number + 1)
        out[rows] = lift_labels(batch.labels[view], batch.inputs.projections[view, 0], centers[rows])[0]
    return torch.where(scan.counts > 1, out, IGNORE)


def occupancy_of(labels: Tensor, free: int) -> Tensor:
    """Class ids uint8 -> 0 free, 1 occupied, 255 unknown."""
    return torch.where(labels == IGNORE, IGNORE, (labels != free).to(torch.uint8))


def nearness(projections: Tensor, centers: Tensor) -> Tensor:
    """(B, M) weights of cells: 1 at a camera that delivered an image, 0 at the farthest cell (Table D.5; the form is ours).

    Args:
        projections: (B, V, 3, 4) cameras.
        centers: (M, 3) grid frame, metres.
    """
    there = projections[..., :3].abs().sum((-1, -2)) > 0
    matrices = torch.where(there[..., None, None], projections[..., :3], torch.eye(3, device=projections.device))
    places = -torch.linalg.solve(matrices, projections[..., 3:])[..., 0]
    distance = torch.cdist(places, centers.expand(len(places), -1, -1), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = torch.where(there[..., None], distance, torch.inf).amin(1)
    nearest = torch.where(torch.isfinite(nearest), nearest, 0.0)
    return 1 - nearest / nearest.amax(1, keepdim=True).clamp(min=1e-6)


def _projection_loss(
    network: OccLE, fused: Tensor, batch: OccleBatch, weights: Weights, stride: int, group: ProcessGroup
) -> Tensor:
    height, width = (n // stride for n in batch.labels.shape[-2:])
    projected, hit = network.fusion.projected_logits(fused, batch.inputs.projections[:, 0], network.centers, height, width)
    target = torch.where(hit, _nearest(batch.labels.flatten(0, 1), height, width), IGNORE)
    return weighted_cross_entropy(projected, target, weights.pixels, group=group)


def _semantic_terms(
    network: OccLE, image: Tensor, lidar: Tensor, batch: OccleBatch, weights: Weights, group: ProcessGroup
) -> dict[str, Tensor]:
    labels = batch.labels.flatten(0, 1)
    logits = F.interpolate(network.semantic.image_head(image), labels.shape[-2:], mode="bilinear", align_corners=False)
    return {
        "image": weighted_cross_entropy(logits, labels, weights.pixels, group=group),
        "lidar": occupancy_loss(lidar, lifted_labels(network, batch), weights.pixels, weights.free, group=group),
    }


def _nearest(labels: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W) -> (N, height, width), each the label in the middle of its pixels."""
    rows = (torch.arange(height, device=labels.device) * 2 + 1) * labels.shape[1] // (2 * height)
    columns = (torch.arange(width, device=labels.device) * 2 + 1) * labels.shape[2] // (2 * width)
    return labels[:, rows][:, :, columns]
