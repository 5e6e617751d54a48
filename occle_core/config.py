# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Base of all typed configurations."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

OWN_VEHICLE_RADIUS = 2.5
"""Horizontal distance from nuScenes' LiDAR within which its beams meet the vehicle itself, metres; KITTI's meet none of it."""


class Config(BaseModel):
    """Base of all configurations: unknown keys are errors, numbers are finite, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
