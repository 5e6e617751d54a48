# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Settings of MinkOcc's recipe (Sze et al., Sec. IV and V-B)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from occle_core.config import Config
from occle_train.data.label_split import LabelUnit
from occle_train.data.self_training import SelfTrainingConfig
from occle_train.pseudo_labels.lidar import Moving


class MinkOccRecipeConfig(Config):
    """Settings of MinkOcc's recipe: the labelled share, and the weak supervision of the other frames."""

    alpha: float = Field(0.1, ge=0, le=1, description="share of the scenes, or frames, whose voxel labels are used")
    label_unit: LabelUnit = Field(
        "scene", description="what alpha is a share of: whole scenes, or single frames (the paper's training samples)"
    )
    label_seed: int = Field(0, ge=0, description="draws the labelled scenes or frames")
    pretraining_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps, before the warm start, that complete the accumulated occupancy of all frames; no label is "
        "read, and rays say what moves; not in the paper",
    )
    warmup_fraction: float = Field(
        0.4, ge=0, le=1, description="share of the steps that see labelled scenes only; 0 where alpha is 0"
    )
    keep_voxel_labels: bool = Field(
        True, description="labelled scenes keep their voxel labels after the warm start; the paper drops them unless alpha is 1"
    )
    min_labelled_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="least share of labelled frames in the batches after the warm start, which are repeated for it; 0 draws all "
        "frames alike, as the paper does",
    )
    mixed: bool = Field(
        False,
        description="for data sets of different kinds: frames with voxel labels learn from these alone; after the warm start the "
        "others learn from scans and, where there are any, 2D labels, and min_labelled_fraction is the share of those with labels",
    )
    past_scans: int = Field(10, ge=0, description="scans before the present one that are accumulated (the paper's K)")
    sweeps: int = Field(
        0,
        ge=0,
        description="scans before each of these frames that are accumulated too, where the data has some between its frames "
        "(nuScenes: ten); needs moving_points keep or rays, as boxes are of frames",
    )
    future_scans: int = Field(
        0,
        ge=0,
        description="scans after the present one that are accumulated as well; the paper takes the past alone. Targets are made "
        "before the training: the car's later scans show what it drove up to",
    )
    free_margin: int = Field(
        2, ge=0, description="how near to an occupied cell no cell is called free, cells; with later scans 1 makes as few mistakes"
    )
    lift_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the classes that accumulated points take from the pixels that show them, beside the rendering's 1; "
        "the paper's 0 renders alone",
    )
    moving_points: Moving | Literal["rays"] = Field(
        "carry",
        description="points on moving objects: carry them with their boxes; remove them by labels or boxes; by rays of other scans "
        "that pass through them, which needs no labels; or keep them",
    )
    sphere_values: Literal["classes", "features"] = Field(
        "classes", description="what a sphere carries: the voxel's class logits, or its feature vector (the paper's f in R^d)"
    )
    sphere_cells: Literal["accumulated", "predicted"] = Field(
        "accumulated",
        description="which cells become spheres: those that the target knows to be occupied and, where it knows nothing, the "
        "predicted ones; or what the network's own pruning leaves (the paper)",
    )
    sunken_spheres: bool = Field(
        True, description="spheres with nothing above them sink by their radius; the paper's stand in their cells' centres"
    )
    unshaded_share: float = Field(
        0.5, ge=0, le=1, description="share of the 2D loss on the picture before the shader; the paper's 0 looks behind it alone"
    )
    pixel_class_weights: bool = Field(True, description="rare classes weigh more in the 2D losses as well; not in the paper")
    free_space_weight: float = Field(
        1.0, ge=0, description="weight of the class head's loss on accumulated free space; the paper has none"
    )
    num_views: int = Field(
        3, ge=0, description="cameras rendered per frame and step, drawn anew each time; 0 renders nothing and needs lift_weight"
    )
    view_width: int = Field(176, ge=16, description="width of the rendered views, pixels")
    view_height: int = Field(100, ge=16, description="height of the rendered views, pixels")
    max_depth: float = Field(60.0, gt=0, description="how far the rendering looks, metres")
    gamma: float = Field(3e-3, ge=1e-5, le=1, description="depth sharpness of the rendering; 1e-5 shows the nearest sphere only")
    shader_channels: int = Field(32, ge=8, multiple_of=8, description="channels of the shader's finest scale")
    self_training: SelfTrainingConfig | None = Field(
        None,
        description="an averaged teacher names the classes of cells without voxel labels, and adds cells that no scan reached; its "
        "classes count as much as lifted labels; not in the paper",
    )
    switch_steps: int = Field(200, ge=0, description="steps after the warm start in which the gradient is clipped harder")
    switch_grad_clip: float = Field(1.0, gt=0, description="largest norm of the gradient in these steps")

    @model_validator(mode="after")
    def _values_fit(self) -> MinkOccRecipeConfig:
        if not self.num_views and not self.lift_weight:
            raise ValueError(
                "recipe.num_views: 0 renders nothing and recipe.lift_weight: 0 lifts no labels, so no class is supervised; set one "
                "of them"
            )
        if self.sweeps and self.moving_points not in ("keep", "rays"):
            raise ValueError(
                f"recipe.sweeps: what moves is known of frames alone, not of the scans between them that recipe.moving_points: "
                f"{self.moving_points} needs; set it to keep or rays, or recipe.sweeps: 0"
            )
        if self.sphere_values == "features" and self.unshaded_share:
            raise ValueError(
                "recipe.sphere_values: features have no classes before the shader; set recipe.unshaded_share: 0, or "
                "recipe.sphere_values: classes"
            )
        if self.pretraining_fraction + self.warmup_fraction > 1 + 1e-9:
            raise ValueError("recipe.pretraining_fraction and recipe.warmup_fraction: together more than all steps; lower one")
        if self.self_training and not (self.alpha and self.keep_voxel_labels and self.lift_weight):
            raise ValueError(
                "recipe.self_training: the teacher is calibrated on labelled frames beside the others, and its classes count as "
                "lifted labels do; set recipe.alpha and recipe.lift_weight above 0 and recipe.keep_voxel_labels: true"
            )
        return self

    def pretraining_steps(self, steps: int) -> int:
        """How many of `steps` steps read no label."""
        return round(self.pretraining_fraction * steps)

    def switch_step(self, steps: int) -> int:
        """The first of `steps` steps that uses weak targets."""
        warmup = self.warmup_fraction if self.alpha else 0
        return round((self.pretraining_fraction + warmup) * steps)
