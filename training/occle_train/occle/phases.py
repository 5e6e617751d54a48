# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The phases of OccLE's training (Algorithm 1): which parts learn, from what, for how long."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from occle_core.config import Config
from occle_core.networks.occle.network import OccLE
from occle_train.data.truth import TruthName
from occle_train.loop.precision import TrainingPrecision, autocast
from occle_train.occle.augment import STUDENT, TEACHER, OccleAugment
from occle_train.occle.distillation import filter_confident
from occle_train.occle.objectives import OccleBatch, Weights, fusion_loss, geometric_loss, semantic_loss
from occle_train.occle.self_training import OccleSelfTrainingConfig, SelfTraining, evidence_targets
from occle_train.process_group import ALONE, ProcessGroup
from occle_train.pseudo_labels.cell_folder import CellConfig

Phase = Literal["semantic", "teacher", "student", "fusion"]
Module = Literal["semantic", "geometric", "projection", "annotations"]

LEARNING: dict[Phase, tuple[str, ...]] = {
    "semantic": ("semantic",),
    "teacher": ("geometric",),
    "student": ("geometric",),
    "fusion": ("semantic", "fusion"),
}
"""The network's parts that a phase trains; the others are frozen, batch statistics included."""

TERMS: dict[Phase, tuple[str, ...]] = {
    "semantic": ("image", "lidar"),
    "teacher": ("geometry",),
    "student": ("geometry",),
    "fusion": ("occupancy", "projection", "image", "lidar"),
}
"""Loss terms of each phase. (Algorithm 1 prints l_sem for phase II as well; Eq. 6 defines l_geo for it.)"""


class OccleRecipeConfig(Config):
    """OccLE's training (Sec. 4.2), with the paper's values as defaults."""

    epochs: int = Field(40, ge=1, description="passes over the frames of phases I, III and of the student")
    teacher_epochs: int = Field(100, ge=1, description="passes of the teacher over the annotated frames")
    batch_size: int = Field(1, ge=1, description="frames per step")
    learning_rate: float = Field(2e-4, gt=0, description="AdamW's initial learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's decoupled decay")
    grad_clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    precision: TrainingPrecision = Field(
        "fp32", description="of matrix products: fp32; tf32 or bf16 (autocast) let a GPU round them; weights stay float32"
    )
    recompute: bool = Field(
        False, description="keep less for the backward pass of the Dual Mamba and compute it again: less memory, more time"
    )
    projection_stride: int = Field(
        4, ge=1, description="pixels of the network's image per pixel of the projection of Eq. 5, along each axis; the paper's is 1"
    )
    weighted_projection: bool = Field(
        False, description="weigh cells of the projection by their nearness to the camera, for the paper's Table D.5"
    )
    frame_interval: int = Field(
        1,
        ge=1,
        description="the training set is each n-th frame of a recording, by the recording's numbers; the others are history only",
    )
    annotated_fraction: float = Field(0.1, gt=0, le=1, description="share of the frames whose voxel annotations are used")
    truth: TruthName = Field(
        "recorded", description="voxel annotations: the data set's own, or accumulated from its labelled scans and poses"
    )
    min_annotated_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="least share of annotated frames in the batches of student and fusion, which are repeated for it; "
        "0 draws all frames alike, as the paper does, and is too little for short trainings",
    )
    confidence_threshold: float = Field(
        0.9, ge=0, le=1, description="least confidence of a teacher's prediction; the paper gives none"
    )
    teacher_augment: OccleAugment = TEACHER
    student_augment: OccleAugment = STUDENT
    ablate: tuple[Module, ...] = Field(
        (),
        description="whose supervision is left out, for the paper's Table 6: semantic (phase I and l_sem), geometric (phase II; "
        "the branch then learns in phase III), projection (Eq. 5), annotations (l_occ of the prediction)",
    )
    voxel_pseudo_labels: CellConfig | None = Field(
        None,
        description="in phase III frames without annotation learn what accumulated scans say of their voxels: free where rays "
        "passed, occupied where points lie, of the class that the points' pixels vote for; needs poses; not in the paper",
    )
    self_training: OccleSelfTrainingConfig | None = Field(
        None,
        description="an averaged teacher joins the voxel pseudo-labels: it names voxels that they leave open, and overrules "
        "votes, as far as it is sure; not in the paper",
    )
    phase_steps: dict[Phase, int] = Field({}, description="optimiser steps of a phase, instead of its passes")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    num_workers: int | None = Field(
        None, ge=0, description="loader processes; 0 loads in the training process, by default as many as the machine's cores allow"
    )
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="time limit of all phases; scales their steps by the measured time of a step",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of weights, order and augmentation")

    @model_validator(mode="after")
    def _values_fit(self) -> OccleRecipeConfig:
        if self.self_training and "annotations" in self.ablate:
            raise ValueError(
                "recipe.self_training: the teacher is calibrated on annotations, which recipe.ablate leaves out; set one of them"
            )
        if self.self_training and self.voxel_pseudo_labels is None:
            raise ValueError(
                "recipe.self_training: the teacher adds to the voxel pseudo-labels; set recipe.voxel_pseudo_labels as well ({})"
            )
        return self

    def epochs_of(self, phase: Phase) -> int:
        """Number of passes of a phase."""
        return self.teacher_epochs if phase == "teacher" else self.epochs

    def steps_of(self, phase: Phase, frames: int) -> int:
        """Number of steps of a phase over its frames."""
        return self.phase_steps.get(phase) or math.ceil(self.epochs_of(phase) * frames / self.batch_size)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that there are, in order."""
        first: tuple[Phase, ...] = () if "semantic" in self.ablate else ("semantic",)
        second: tuple[Phase, ...] = () if "geometric" in self.ablate else ("teacher", "student")
        return (*first, *second, "fusion")

    def terms(self, phase: Phase) -> tuple[str, ...]:
        """Loss terms of a phase."""
        return (*TERMS[phase], "voxel_pseudo_labels") if phase == "fusion" and self.voxel_pseudo_labels else TERMS[phase]

    def learning(self, phase: Phase) -> tuple[str, ...]:
        """The network's parts that a phase trains."""
        joined = phase == "fusion" and "geometric" in self.ablate
        return (*LEARNING[phase], "geometric") if joined else LEARNING[phase]


def begin_phase(network: OccLE, phase: Phase, config: OccleRecipeConfig) -> torch.optim.AdamW:
    """Set the network up for a phase: what learns is in training mode, everything else is frozen, in evaluation mode.

    Returns:
        the optimiser of the learning parts.
    """
    network.eval().requires_grad_(False)
    if network.fusion.mamba is not None:
        network.fusion.mamba.recompute = config.recompute
    parameters = []
    for name in config.learning(phase):
        part = network.get_submodule(name).train().requires_grad_(True)
        parameters += list(part.parameters())
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def run_step(
    network: OccLE,
    phase: Phase,
    batch: OccleBatch,
    optimizer: torch.optim.Optimizer,
    weights: Weights,
    config: OccleRecipeConfig,
    group: ProcessGroup = ALONE,
    self_training: SelfTraining | None = None,
) -> dict[str, float]:
    """Train on a batch, after `begin_phase`.

    Of several processes each gives its share of the batch; losses and gradients are those of the whole one. The averaged teacher
    of `self_training` joins the batch's pseudo-labels, and follows the step.

    Returns:
        the losses and "gradient_norm".

    Raises:
        FloatingPointError: a loss or its gradient is not finite; the weights are left as they were.
    """
    with autocast(config.precision, batch.truth.device.type):
        if phase == "fusion" and config.voxel_pseudo_labels is not None:
            targets = self_training.targets(batch, group) if self_training else evidence_targets(batch, weights.free)
            batch = replace(batch, voxel_targets=targets)
        terms = {name: term.float() for name, term in _loss(network, phase, batch, weights, config, group).items()}
    total = torch.stack(list(terms.values())).sum()
    values = (group.total(torch.stack(list(terms.values()))) + 0.0).tolist()  # no -0.0
    if not all(map(math.isfinite, values)):
        raise FloatingPointError(f"phase {phase}: the loss is {sum(values)}; lower the learning rate")
    optimizer.zero_grad()
    norm = 0.0
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
        parameters = [p for part in optimizer.param_groups for p in part["params"]]
        group.add_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip))
        if not math.isfinite(norm):
            raise FloatingPointError(f"phase {phase}: the gradient's norm is {norm}; lower the learning rate")
        optimizer.step()
    if self_training is not None:
        self_training.update(network)
    return dict(zip(terms, values)) | {"gradient_norm": norm}


@torch.no_grad()
def predict_teacher_labels(teacher: OccLE, batch: OccleBatch, config: OccleRecipeConfig) -> Tensor:
    """(B, X, Y, Z) uint8 geometry that the teacher is sure of: Algorithm 1's predictions for unannotated frames."""
    grid = teacher.geometry(batch.inputs, teacher.cells(batch.inputs))
    return filter_confident(teacher.geometric.logits(grid), config.confidence_threshold)


def _loss(
    network: OccLE, phase: Phase, batch: OccleBatch, weights: Weights, config: OccleRecipeConfig, group: ProcessGroup
) -> dict[str, Tensor]:
    if phase == "semantic":
        return semantic_loss(network, batch, weights, group)
    if phase == "fusion":
        return fusion_loss(network, batch, weights, config.ablate, config.projection_stride, config.weighted_projection, group)
    return geometric_loss(network, batch, weights, group)
