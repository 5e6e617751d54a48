# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Presets of the label-efficiency experiment: data, network and steps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from occle_core.bundle import BundleSpec, spec_for
from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid
from occle_core.networks.minkocc import config as sizes
from occle_core.networks.minkocc.config import ImageConfig, MinkOccConfig, PointConfig, UNetConfig
from occle_train.data.augment import AugmentConfig
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig


@dataclass(frozen=True)
class Streets:
    """Drives of `occle_train.streets` with the nuScenes rig; `images` is the size of images relative to the real cameras'."""

    drives: int
    frames: int
    seed: int
    images: float
    every: int = 1

    @property
    def total(self) -> int:
        """Frames of all drives."""
        return self.drives * len(range(0, self.frames, self.every))

    @property
    def key(self) -> str:
        """A name that other drives do not have."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class ExperimentPreset:
    """One size of the experiment.

    Args:
        name: what people call it.
        grid, network: of all settings, unless a setting has finer cells.
        streets: "train" and "val".
        fit: how every setting is trained.
        recipe: how the weakly supervised settings differ; alpha is the setting's.
        settings: keys of the settings that are run unless others are asked for.
        seeds: of the trainings, unless others are asked for.
    """

    name: str
    grid: VoxelGrid
    network: MinkOccConfig
    streets: Mapping[str, Streets]
    fit: FitConfig
    recipe: MinkOccRecipeConfig
    settings: tuple[str, ...]
    seeds: tuple[int, ...]

    def spec(self, finer: int) -> BundleSpec:
        """The network on cells `finer` times smaller."""
        grid = self.grid.finer(finer)
        return spec_for(self.network, grid, "occ3d_nuscenes", f"minkocc-{self.name}-{grid.resolution:g}m")

    def with_steps(self, steps: int) -> ExperimentPreset:
        """The same with another number of optimiser steps."""
        return replace(self, fit=self.fit.model_copy(update={"steps": steps}))


_AUGMENT = AugmentConfig(
    camera_dropout_prob=0.1, max_image_shift=0.03, max_image_scale=0.1, max_image_rotation=3, max_voxel_dropout=0.1
)

SMALL = ExperimentPreset(
    name="small",
    grid=VoxelGrid((-19.2, -19.2, -1.0), (96, 96, 16), 0.4),
    network=MinkOccConfig(
        image=ImageConfig(num_cameras=6, width=160, height=96, base_width=16, num_stages=3, channels=16),
        points=PointConfig(min_range=2.5, max_points=4, channels=16),
        unet=UNetConfig(encoder_channels=(16, 24, 32, 48), decoder_channels=(16, 24, 32)),
    ),
    streets={"train": Streets(20, 10, 11000, 0.11), "val": Streets(5, 12, 21000, 0.11, every=3)},
    fit=FitConfig(
        steps=1300, batch_size=2, learning_rate=2e-3, warmup_steps=50, ema_decay=0.99, augment=_AUGMENT, checkpoint_every=50
    ),
    recipe=MinkOccRecipeConfig(
        warmup_fraction=0.2,
        min_labelled_fraction=0.3,
        past_scans=10,
        future_scans=10,
        free_margin=1,
        lift_weight=2.0,
        num_views=2,
        view_width=88,
        view_height=50,
        max_depth=30,
        shader_channels=16,
        switch_steps=50,
    ),
    settings=("full", "few", "recipe", "paper", "self_training", "pretrained"),
    seeds=(0, 1, 2),
)
"""Two CPU cores, about four hours: a fifth of the volume, small images, a narrow network."""

FULL = ExperimentPreset(
    name="full",
    grid=OCC3D_NUSCENES,
    network=sizes.base("nuscenes"),
    streets={"train": Streets(200, 40, 11000, 0.44), "val": Streets(20, 40, 21000, 0.44, every=4)},
    fit=FitConfig(
        steps=40_000,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=500,
        ema_decay=0.999,
        augment=_AUGMENT,
        checkpoint_every=500,
        num_workers=8,
    ),
    recipe=MinkOccRecipeConfig(
        warmup_fraction=0.4,
        past_scans=10,
        future_scans=10,
        free_margin=1,
        lift_weight=2.0,
        num_views=3,
        view_width=176,
        view_height=100,
    ),
    settings=("full", "few", "recipe", "paper", "self_training", "pretrained", "none", "recipe_half", "recipe_quarter"),
    seeds=(0, 1, 2),
)
"""A GPU: Occ3D's volume and the paper's network."""

PRESETS = {"small": SMALL, "full": FULL}
