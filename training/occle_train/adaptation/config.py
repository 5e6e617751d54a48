# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Settings of the adaptation to unlabelled recordings."""

from __future__ import annotations

from pydantic import Field

from occle_core.config import Config
from occle_train.data.augment import AugmentConfig
from occle_train.data.ray_evidence import RayEvidenceConfig
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig


class AdaptConfig(Config):
    """Settings of the adaptation."""

    rounds: int = Field(
        2, ge=1, description="trainings one after the other; the averaged network of each is the teacher of the next"
    )
    steps: int = Field(100, ge=1, description="optimiser steps of a round")
    batch_size: int = Field(2, ge=1, description="frames per step")
    learning_rate: float = Field(1e-3, gt=0, description="peak of each round's cosine schedule")
    warmup_steps: int = Field(10, ge=0, description="steps of linear warm-up, at most a quarter of a round")
    simulated_share: float = Field(0.5, gt=0, lt=1, description="least share of simulated frames in the batches")
    past_frames: int = Field(10, ge=0, description="frames before the present one whose scans and predictions are accumulated")
    future_frames: int = Field(10, ge=0, description="frames after it")
    free_margin: int = Field(
        0, ge=0, description="how near to an occupied cell no cell is called free, cells; 0 frees all that a ray passed"
    )
    pixel_weight: float = Field(
        0.35, ge=0, lt=1, description="weight of the class that points take from label images, beside the teacher's 1"
    )
    least_precision: float = Field(
        0.9, ge=0, le=1, description="precision on simulated frames that sets the least confidence of a class in the targets"
    )
    calibration_frames: int = Field(32, ge=1, description="simulated frames on which these thresholds are measured, about")
    class_weight: float = Field(1.0, ge=0, description="weight of the teacher's classes, beside the simulated frames' 1")
    class_balance_beta: float = Field(0.999, ge=0, lt=1, description="of the weights of rare classes; 0.9 weighs all alike")
    semantic_weight: float = Field(0.5, ge=0, description="weight of all class losses")
    occupancy_weight: float = Field(1.0, ge=0, description="weight of the occupancy losses")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled decay")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="largest decay of the running average of the weights, the next teacher")
    seed: int = Field(0, ge=0, lt=2**32, description="of order and augmentation")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")
    num_workers: int | None = Field(0, ge=0, description="loader processes; 0 loads in the training process")
    augment: AugmentConfig = AugmentConfig()
    rays: RayEvidenceConfig = RayEvidenceConfig()

    def round_config(self, number: int) -> FitConfig:
        """The training of round `number`, counted from 0."""
        recipe = MinkOccRecipeConfig(
            warmup_fraction=0,
            min_labelled_fraction=self.simulated_share,
            lift_weight=self.class_weight,
            num_views=0,
            switch_steps=0,
        )
        names = (
            "steps", "batch_size", "learning_rate", "warmup_steps", "weight_decay", "semantic_weight", "occupancy_weight",
            "class_balance_beta", "ema_decay", "checkpoint_every", "num_workers", "augment",
        )  # fmt: skip
        same = {name: getattr(self, name) for name in names}
        return FitConfig(**same, seed=self.seed + number, truth_mask="either", recipe=recipe)
