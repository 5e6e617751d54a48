# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Settings of an OccLE training: network size, images, recipe."""

from __future__ import annotations

from pydantic import Field

from occle_core.bundle import BundleSpec, rig_spec
from occle_core.config import Config
from occle_core.networks.occle.config import CROPS, OccleConfig
from occle_core.networks.protocol import RigName, Size
from occle_train.occle.phases import OccleRecipeConfig


class OccleRun(Config):
    """The contents of a configuration of OccLE, such as occle_nuscenes."""

    rig: RigName | None = Field(None, description="which volume and class list; the data's layout says it")
    size: Size = Field("small", description="network size; base is the paper's")
    crop_images: bool = Field(False, description="cut images to the paper's size (D.2) instead of resizing them; for size base")
    recipe: OccleRecipeConfig = OccleRecipeConfig()


def spec_of(settings: OccleRun, rig: RigName) -> BundleSpec:
    """The spec of a network size, cropping its images where wanted."""
    spec = rig_spec(settings.size, rig, "occle")
    if not settings.crop_images:
        return spec
    assert isinstance(spec.network, OccleConfig)
    if settings.size != "base":
        raise ValueError(f"crop_images: the paper's crop fits size base, not {settings.size}; set size: base or leave it out")
    return spec.model_copy(update={"network": spec.network.model_copy(update={"crop": CROPS[rig]})})
