# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Constants of the rolling map, each with its unit."""

from __future__ import annotations

from pydantic import Field, model_validator

from occle_core.config import Config

UNITS = 16
"""Steps of the stored log-odds (int8) per unit of natural log-odds."""
MAX_LOG_ODDS = 3.9
"""Largest limit and largest evidence of one frame, so that their sum fits in int8."""


CELLS = (250, 250, 20)
"""Cells along x, y, z of a map that takes the network's cells: their number, not the network, sets its memory and time."""


class MapConfig(Config):
    """Size, evidence, memory and restart rules of the rolling map."""

    size: tuple[float, float, float] = Field((100.0, 100.0, 8.0), description="extent along x, y, z around the robot, metres")
    resolution: float = Field(
        0.4, gt=0, description="edge length of a cell, metres, at most the network's; the default is the shipped ones'"
    )
    occupied_log_odds: float = Field(0.0, ge=0, lt=MAX_LOG_ODDS, description="a cell is occupied above this, natural log-odds")
    free_log_odds: float = Field(-0.3, le=0, gt=-MAX_LOG_ODDS, description="a cell is free below this, natural log-odds")
    occupied_limit: float = Field(
        3.0, gt=0, le=MAX_LOG_ODDS, description="log-odds stay below this: the smaller, the sooner what has left is cleared"
    )
    free_limit: float = Field(
        1.0, gt=0, le=MAX_LOG_ODDS, description="log-odds stay above minus this: the smaller, the sooner what arrives is seen"
    )
    network_gain: float = Field(
        0.15, gt=0, le=1, description="share of a network's log-odds that counts: neighbouring frames are not independent"
    )
    dynamic_gain: float = Field(
        0.3, gt=0, le=1, description="the same where it names a class that may move: what arrives is seen within frames"
    )
    network_limit: float = Field(
        1.5, gt=0, le=MAX_LOG_ODDS, description="largest evidence of one frame's network, natural log-odds"
    )
    beside: float = Field(
        0.2, ge=0, le=1, description="share of a free cell's evidence that counts where the network says occupied next to it"
    )
    sure_ground: float = Field(
        2.5,
        gt=0,
        le=MAX_LOG_ODDS,
        description="on ground above this the network puts no more ground without a return, natural log-odds: ground is a surface",
    )
    hit: float = Field(3.0, ge=0, le=MAX_LOG_ODDS, description="evidence of a return inside the cell, natural log-odds")
    miss: float = Field(0.5, ge=0, le=MAX_LOG_ODDS, description="evidence of a ray that passed the cell, natural log-odds")
    dynamic_clearing: float = Field(
        3.0,
        ge=0,
        le=MAX_LOG_ODDS,
        description="least evidence of free space in cells of dynamic classes, natural log-odds: moving objects leave no trail",
    )
    returns: int = Field(130000, gt=0, description="returns of a scan that mark cells; each frame takes others in turn")
    rays: int = Field(16000, gt=0, description="of these returns, how many rays are followed to clear what they passed")
    dynamic_memory: float = Field(2.0, gt=0, description="seconds after which an unobserved cell of a dynamic class is unknown")
    static_memory: float = Field(300.0, gt=0, description="seconds after which any other unobserved occupied cell is unknown")
    free_memory: float = Field(60.0, gt=0, description="seconds after which an unobserved free cell is unknown")
    max_gap: float = Field(10.0, gt=0, description="seconds without an update after which the map starts anew")
    max_speed: float = Field(60.0, gt=0, description="metres per second; the map starts anew when a pose moved faster")
    jump_slack: float = Field(0.5, ge=0, description="metres that a pose may jump at once")

    @model_validator(mode="after")
    def _has_cells(self) -> MapConfig:
        if min(self.size) < self.resolution:
            raise ValueError(f"size {self.size} is smaller than a cell of {self.resolution} m")
        return self

    @model_validator(mode="after")
    def _can_reach_limits(self) -> MapConfig:
        if self.occupied_log_odds >= self.occupied_limit or -self.free_log_odds >= self.free_limit:
            raise ValueError("occupied_log_odds and -free_log_odds must be below their limits: no cell could reach them")
        return self

    @classmethod
    def of_cells(cls, resolution: float) -> MapConfig:
        """The map of a network with cells of this edge length, metres."""
        x, y, z = (count * resolution for count in CELLS)
        return cls(size=(x, y, z), resolution=resolution)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        x, y, z = (max(1, round(length / self.resolution)) for length in self.size)
        return (x, y, z)
