# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""One optimiser step of MinkOcc: losses, gradients, update."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.network import MinkOcc, MinkOccPrediction
from occle_train.loop.precision import autocast
from occle_train.losses.lovasz import lovasz_losses
from occle_train.losses.minkocc import class_loss, occupancy_pyramid, occupied_class_loss, supervised_loss
from occle_train.minkocc.batches import MinkOccBatch
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.image_head import ImageHead
from occle_train.minkocc.self_training import SelfTraining
from occle_train.process_group import ProcessGroup
from occle_train.rendering.head import SphereHead


class Trainer:
    """One optimiser step after the other.

    Args:
        network: in training mode.
        head: the renderer, where there is a recipe that renders.
        optimizer: of both.
        weights: (C,) class weights of voxels and of pixels.
        free: id of the free class.
        config: how.
        group: the processes that train together.
        image_head: of the image pyramid's loss, where there is one.

    Attributes:
        self_training: the averaged teacher; set where the recipe has one.
    """

    def __init__(
        self,
        network: MinkOcc,
        head: SphereHead | None,
        optimizer: torch.optim.Optimizer,
        weights: tuple[Tensor, Tensor],
        free: int,
        config: FitConfig,
        group: ProcessGroup,
        image_head: ImageHead | None = None,
    ) -> None:
        self.network, self.head, self.image_head, self.optimizer = network, head, image_head, optimizer
        self.self_training: SelfTraining | None = None
        self.weights, self.free, self.config, self.group = weights, free, config, group
        extra = {"pseudo": config.recipe, "lovasz": config.losses.uses_lovasz, "image": image_head}
        self.losses = ("semantic", "occupancy", *(name for name, used in extra.items() if used), "total")

    def step(self, step: int, batch: MinkOccBatch) -> dict[str, float]:
        """One step on this process's share of a batch. Returns the whole batch's losses, the learning rate and the gradient's norm.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are left as they were.
        """
        with autocast(self.config.precision, batch.labels.device.type):
            losses = self._losses(step, batch)
        values = self.group.total(torch.stack([losses[name].detach() for name in self.losses]))
        if not bool(torch.isfinite(values).all()):
            raise FloatingPointError(f"the loss is {float(values[-1])}; lower the learning rate")
        self.optimizer.zero_grad()
        losses["total"].backward()  # type: ignore[no-untyped-call]
        parameters = [p for part in self.optimizer.param_groups for p in part["params"]]
        self.group.add_gradients(parameters)
        norm = float(nn.utils.clip_grad_norm_(parameters, self.config.grad_clip_at(step)))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {norm}; lower the learning rate")
        self.optimizer.step()
        rate = float(self.optimizer.param_groups[0]["lr"])
        return dict(zip(self.losses, values.tolist())) | {"learning_rate": rate, "gradient_norm": norm}

    def _losses(self, step: int, batch: MinkOccBatch) -> dict[str, Tensor]:
        """Eq. 6: before the switch voxel labels and occupancy, after it pseudo-labels and occupancy (and the kept voxel labels)."""
        config, total = self.config, self.group.total
        teacher = self.self_training if step >= config.teaching_step else None
        if teacher is not None:
            batch = teacher.targets(batch, total)
        pyramid = occupancy_pyramid(batch.occupancy, 0, len(self.network.unet.up))
        prediction = self.network(batch.inputs, occupied=[level == 1 for level in pyramid])
        voxels, pixels = self.weights
        recipe = config.recipe
        losses = supervised_loss(prediction, batch.labels, pyramid, voxels, config.semantic_weight, config.occupancy_weight, total)
        if recipe is not None:
            pseudo = torch.zeros_like(losses["total"])
            if step >= config.sampling_plan.switch_step:
                weights = pixels if recipe.pixel_class_weights else torch.ones_like(pixels)
                if self.head is not None:
                    cells = batch.occupancy
                    if recipe.sphere_cells == "predicted":
                        cells = kept_cells(prediction, self.network.unet.threshold[0])
                    pseudo = self.head.loss(prediction.classes, cells, batch.views, weights, total, prediction.features)
                if recipe.lift_weight:
                    if teacher is not None and recipe.pixel_class_weights:
                        weights = teacher.weights
                    pseudo = pseudo + recipe.lift_weight * class_loss(prediction.classes, batch.lifted, weights, total)
                pseudo = config.semantic_weight * pseudo
                if recipe.free_space_weight:
                    unlabelled = torch.where(batch.labels == 255, batch.occupancy, 255).to(torch.uint8)
                    free_space = occupied_class_loss(prediction.classes, unlabelled, self.free, total)
                    losses["occupancy"] = losses["occupancy"] + config.occupancy_weight * recipe.free_space_weight * free_space
            losses["pseudo"] = pseudo
        losses |= self._auxiliary(step, batch, prediction)
        losses["total"] = torch.stack([losses[name] for name in self.losses[:-1]]).sum()
        return losses

    def _auxiliary(self, step: int, batch: MinkOccBatch, prediction: MinkOccPrediction) -> dict[str, Tensor]:
        """Losses that are not the paper's. Lovász-softmax is of a process's own frames, and a mean over the processes."""
        config, found = self.config.losses, {}
        if config.uses_lovasz:
            classes, occupied = lovasz_losses(prediction.classes, batch.labels, self.free, config.lovasz_cells, step)
            found["lovasz"] = (config.lovasz * classes + config.lovasz_occupied * occupied) / self.group.size
        if self.image_head is not None:
            assert batch.pixels is not None
            found["image"] = config.image_semantics * self.image_head.loss(prediction.pyramid, *batch.pixels, self.group.total)
        return found


def kept_cells(prediction: MinkOccPrediction, threshold: float) -> Tensor:
    """(B, X, Y, Z) uint8: 1 where the network's own pruning keeps a finest cell, whatever the labels add to it, else 0.

    Args:
        prediction: of a batch.
        threshold: logit of the least occupancy probability that survives on the finest level.
    """
    finest = prediction.levels[0]
    return finest.proposed.coordinates.volume((finest.occupancy.detach() > threshold).to(torch.uint8), 0)


def make_head(spec: BundleSpec, config: FitConfig) -> SphereHead | None:
    """The recipe's renderer with fresh weights; None without a recipe, and where it renders nothing."""
    if config.recipe is None or not config.recipe.num_views:
        return None
    classes, recipe = taxonomy.load(spec.taxonomy), config.recipe
    channels = spec.network.unet.encoder_channels[0] if isinstance(spec.network, MinkOccConfig) else 0
    return SphereHead(
        classes.num_classes,
        classes.free,
        spec.voxel_grid,
        recipe.gamma,
        recipe.max_depth,
        recipe.shader_channels,
        channels if recipe.sphere_values == "features" else None,
        recipe.sunken_spheres,
        recipe.unshaded_share,
        config.teaches_free,
    )
