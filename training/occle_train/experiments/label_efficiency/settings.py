# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Settings of the label-efficiency experiment: who has voxel labels, and what else teaches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

SHARE = 0.1
"""Scenes with voxel labels in the settings that have few."""
SHARES = (0.1, 0.05, 0.01)
"""Frames with voxel labels in the settings that compare shares."""


@dataclass(frozen=True)
class Setting:
    """One row of the tables.

    Args:
        key: folder name.
        supervision: what people read, after the share of the labels.
        alpha: share of the scenes, or frames, with voxel labels.
        weak: whether weak targets follow the warm start.
        finer: cells this many times smaller than the preset's.
        lift: whether points name the classes of cells as well (`MinkOccRecipeConfig.lift_weight`), as the preset says; otherwise,
            as in the paper, rendering is their only supervision.
        literal: whether it is trained by the paper's recipe to the letter, minkocc_10_paper, but for the preset's network, images,
            steps and learning rate; it draws frames.
        self_training: whether an averaged teacher joins the weak targets (`MinkOccRecipeConfig.self_training`).
        pretrained: share of the steps that complete accumulated scans, without labels, before all others.
        unit: what alpha is a share of.
    """

    key: str
    supervision: str
    alpha: float
    weak: bool
    finer: int = 1
    lift: bool = True
    literal: bool = False
    self_training: bool = False
    pretrained: float = 0.0
    unit: Literal["scene", "frame"] = "scene"

    @property
    def title(self) -> str:
        """The share of the labels, and what else teaches."""
        of_frames = " of the frames" if self.unit == "frame" and not self.literal else ""
        return f"{100 * self.alpha:g} %{of_frames}, {self.supervision}"

    def of_frames(self, share: float) -> Setting:
        """The same with a share of the single frames: `recipe` becomes `recipe-5`."""
        return replace(self, key=f"{self.key}-{100 * share:g}", alpha=share, unit="frame")


FULL = Setting("full", "voxel labels", 1.0, False)
FEW = Setting("few", "voxel labels alone", SHARE, False)
RECIPE = Setting("recipe", "our recipe", SHARE, True)
PAPER = Setting("paper", "the paper's recipe", SHARE, True, literal=True, unit="frame")
SELF_TRAINING = Setting("self_training", "our recipe and teacher", SHARE, True, self_training=True)
PRETRAINED = Setting("pretrained", "scans first", SHARE, False, pretrained=1 / 3)

OWN_SETTINGS = (
    FULL,
    FEW,
    RECIPE,
    Setting("none", "weak targets alone", 0.0, True),
    Setting("rendered", "our recipe without lifted labels", SHARE, True, lift=False),
    PAPER,
    SELF_TRAINING,
    PRETRAINED,
    Setting("recipe_half", "our recipe, half the voxel size", SHARE, True, 2),
    Setting("recipe_quarter", "our recipe, a quarter of the voxel size", SHARE, True, 4),
)
"""Those of the paper's tables and the first beyond them: few labels are a tenth of the scenes."""
COMPARED = (FEW, RECIPE, PAPER, SELF_TRAINING, PRETRAINED)
"""Those that are compared at several shares."""
OF_FRAMES = tuple(
    setting.of_frames(share) for share in SHARES for setting in COMPARED if not (setting is PAPER and share == PAPER.alpha)
)
"""The same at shares of the frames, as which the paper's recipe draws its tenth in any case."""
SETTINGS = (*OWN_SETTINGS, *OF_FRAMES)
"""In the order in which they are trained."""
