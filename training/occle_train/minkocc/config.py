# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Settings of MinkOcc's training."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from occle_core.config import Config
from occle_train.data.augment import AugmentConfig
from occle_train.data.truth import MaskName
from occle_train.loop.precision import TrainingPrecision
from occle_train.loop.sampling import SamplingPlan
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig


class LossConfig(Config):
    """Losses beside the paper's; all are off by default."""

    lovasz: float = Field(0.0, ge=0, description="weight of Lovász-softmax on the classes of voxel labels, a mean over those there")
    lovasz_occupied: float = Field(0.0, ge=0, description="weight of the same on occupied against free")
    lovasz_cells: int = Field(300000, ge=1, description="how many cells of a step these two compare at most, about")
    image_semantics: float = Field(
        0.0,
        ge=0,
        description="weight of a cross-entropy of 1x1 convolutions on the image pyramid's two finest levels against the pixels' "
        "classes: --labels, or the simulator's own; the convolutions are not kept",
    )

    @property
    def uses_lovasz(self) -> bool:
        """Whether cells are compared by Lovász-softmax."""
        return self.lovasz > 0 or self.lovasz_occupied > 0


class FitConfig(Config):
    """Training settings."""

    steps: int = Field(4000, ge=1, description="optimiser steps")
    batch_size: int = Field(2, ge=1, description="frames per step, over all processes")
    learning_rate: float = Field(2e-3, gt=0, description="peak of the cosine schedule")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up, at most a quarter of all")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled decay; 0 is Adam")
    semantic_weight: float = Field(0.5, ge=0, description="weight of the class losses in 3D and 2D (the paper's lambda_1)")
    occupancy_weight: float = Field(1.0, ge=0, description="weight of the pruning losses (the paper's lambda_2)")
    grad_clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    class_balance_beta: float = Field(
        0.99999, ge=0, lt=1, description="of the effective number of cells or pixels of a class; 0.9 weighs all alike"
    )
    ema_decay: float = Field(
        0.998, ge=0, lt=1, description="largest decay of the running average of the weights, which is what is kept"
    )
    initial_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of --start-from's weights in what is kept; half keeps short trainings from losing what the longer one "
        "before them knew (Wortsman et al., Robust fine-tuning of zero-shot models, 2022)",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of weights, order and augmentation")
    truth_mask: MaskName = Field(
        "camera", description="whose sight makes a cell of Occ3D's truth count: camera (the benchmark's), lidar, either or none"
    )
    losses: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    num_workers: int | None = Field(
        None, ge=0, description="loader processes; 0 loads in the training process, by default as many as the machine's cores allow"
    )
    epochs: int | None = Field(None, ge=1, description="passes over the frames; sets `steps` if given")
    max_minutes: float | None = Field(
        None, gt=0, description="time limit of the training; sets `steps` by the measured time of a step, whatever else is given"
    )
    precision: TrainingPrecision = Field(
        "fp32", description="of matrix products: fp32, tf32 (on CUDA), or bf16 by autocast; weights stay float32"
    )
    sparse_backend: Literal["occle", "minkowski"] = Field(
        "occle", description="what computes sparse convolutions; minkowski needs MinkowskiEngine"
    )
    free_bias: bool = Field(True, description="end by measuring the free class's bias on labelled frames; not in the paper")
    free_bias_frames: Literal["training", "validation"] = Field(
        "training",
        description="frames that this bias is measured on; those of --validation were never trained on, but then score nothing new",
    )
    recipe: MinkOccRecipeConfig | None = Field(None, description="the label-efficient recipe; without: voxel labels only")

    def for_frames(self, count: int) -> FitConfig:
        """The configuration whose `steps` are as many as `epochs` passes over `count` frames take."""
        if self.epochs is None:
            return self
        return self.model_copy(update={"steps": math.ceil(self.epochs * count / self.batch_size), "epochs": None})

    @property
    def sampling_plan(self) -> SamplingPlan:
        """Settings that determine the frames of every step."""
        switch = self.recipe.switch_step(self.steps) if self.recipe else self.steps
        views = self.recipe.num_views if self.recipe else 0
        repeat = self.recipe.min_labelled_fraction if self.recipe and self.recipe.alpha and self.recipe.keep_voxel_labels else 0.0
        scans = self.recipe.pretraining_steps(self.steps) if self.recipe else 0
        return SamplingPlan(self.seed, self.steps, self.batch_size, switch, views, self.augment, repeat, scans)

    @property
    def teaches_free(self) -> bool:
        """Whether anything names free cells to the class head: voxel labels, or rays."""
        return self.recipe is None or bool(self.recipe.alpha or self.recipe.free_space_weight)

    @property
    def teaching_step(self) -> int:
        """The first step in which the averaged teacher teaches; `steps` where it never does."""
        if self.recipe is None or self.recipe.self_training is None:
            return self.steps
        return max(self.recipe.switch_step(self.steps), self.recipe.self_training.first_step(self.steps))

    def grad_clip_at(self, step: int) -> float:
        """Largest norm of the gradient: smaller just after the warm start, where the losses change (Sec. V-B)."""
        switch = self.sampling_plan.switch_step
        if self.recipe and 0 < switch <= step < switch + self.recipe.switch_steps:
            return min(self.grad_clip, self.recipe.switch_grad_clip)
        return self.grad_clip
