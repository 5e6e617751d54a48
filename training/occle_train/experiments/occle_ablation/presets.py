# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Presets of the ablation: data, network and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import yaml

from occle_core.bundle import BundleSpec, spec_for
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid
from occle_core.networks.occle.config import FusionConfig, GeometricConfig, OccleConfig, ScanConfig, SemanticConfig
from occle_core.networks.occle.config import base as occle_base
from occle_train.configs import find_config
from occle_train.experiments.label_efficiency.presets import Streets
from occle_train.occle.augment import STUDENT
from occle_train.occle.phases import OccleRecipeConfig, Phase
from occle_train.occle.run_config import OccleRun, spec_of


@dataclass(frozen=True)
class ExperimentPreset:
    """One size of the ablation.

    Args:
        name: what people call it.
        grid, network: of all settings.
        streets: "train" and "val": drives of the KITTI rig, of different seeds.
        recipe: how every setting is trained, but for what is ablated.
        seeds: of the trainings.
    """

    name: str
    grid: VoxelGrid
    network: OccleConfig
    streets: Mapping[str, Streets]
    recipe: OccleRecipeConfig
    seeds: tuple[int, ...] = (0,)

    @property
    def spec(self) -> BundleSpec:
        """The network on its grid."""
        return spec_for(self.network, self.grid, "semantickitti", f"occle-ablation-{self.name}")

    def with_steps(self, steps: int) -> ExperimentPreset:
        """The same with another number of optimiser steps in every phase."""
        return replace(self, recipe=self.recipe.model_copy(update={"phase_steps": dict.fromkeys(self.recipe.phases, steps)}))


def _steps(semantic: int, teacher: int, student: int, fusion: int) -> dict[Phase, int]:
    return {"semantic": semantic, "teacher": teacher, "student": student, "fusion": fusion}


SMALL = ExperimentPreset(
    name="small",
    grid=VoxelGrid((0.0, -9.6, -2.0), (48, 48, 16), 0.4),
    network=OccleConfig(
        width=208,
        height=64,
        num_frames=2,
        channels=16,
        scan=ScanConfig(max_points=4, channels=16),
        semantic=SemanticConfig(image_channels=(12, 24, 32), lidar_channels=(16, 16, 24, 32)),
        geometric=GeometricConfig(base_width=8, num_stages=3),
        fusion=FusionConfig(stage_channels=(16, 24, 32, 32), state_size=4),
    ),
    streets={"train": Streets(12, 60, 31000, 0.17, every=6), "val": Streets(5, 48, 41000, 0.17, every=6)},
    recipe=OccleRecipeConfig(
        phase_steps=_steps(450, 400, 450, 450),
        batch_size=2,
        learning_rate=2e-3,
        min_annotated_fraction=0.5,
        # Of images a sixth as wide as the real ones.
        student_augment=STUDENT.model_copy(update={"max_motion_blur": 3}),
        checkpoint_every=50,
    ),
    seeds=(0, 1, 2),
)
"""Two CPU cores: a ninth of the volume at 0.4 m, small images, one frame of history, narrow layers."""

FULL = ExperimentPreset(
    name="full",
    grid=SEMANTICKITTI,
    network=occle_base("kitti"),
    streets={"train": Streets(100, 200, 31000, 1.0), "val": Streets(10, 200, 41000, 1.0)},
    recipe=OccleRecipeConfig(
        phase_steps=_steps(40_000, 40_000, 40_000, 40_000), frame_interval=5, min_annotated_fraction=0.5, checkpoint_every=1000
    ),
)
"""A GPU: the paper's network and volume, five frames at 10 Hz."""


def _paper() -> ExperimentPreset:
    """The shipped configuration `occle_semantickitti_paper`: passes instead of steps, cropped images."""
    run = OccleRun.model_validate(yaml.safe_load(find_config("occle_semantickitti_paper").read_text("utf-8")))
    network = spec_of(run, "kitti").network
    assert isinstance(network, OccleConfig)
    return ExperimentPreset("paper", SEMANTICKITTI, network, FULL.streets, run.recipe)


PRESETS = {"small": SMALL, "full": FULL, "paper": _paper()}
