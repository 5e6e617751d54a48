# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parameter groups of the rolling map."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from occle_core.mapping import MapConfig
from occle_ros.config.groups import Metres, max_rate
from occle_ros.config.parameter_group import ConfigError, ParameterGroup, live_parameter


class MapVoxelsConfig(ParameterGroup):
    """~/map/voxels and ~/map/voxels_updates."""

    max_rate_hz: float = max_rate("~/map/voxels, the whole map", 1.0)
    updates_max_rate_hz: float = max_rate("~/map/voxels_updates")


class MapMarkersConfig(ParameterGroup):
    """~/map/markers."""

    max_rate_hz: float = max_rate("~/map/markers", 1.0)
    max_voxels: int = live_parameter(
        60_000, "largest number of cubes in one MarkerArray, nearest to the robot first", ge=1, le=2_000_000
    )


class MapGridConfig(ParameterGroup):
    """~/map/occupancy_grid, ~/map/occupancy_grid_updates and ~/map/distance."""

    max_rate_hz: float = max_rate("~/map/occupancy_grid, the whole grid", 1.0)
    updates_max_rate_hz: float = max_rate("~/map/occupancy_grid_updates")
    min_height: Metres = live_parameter(0.3, "lower limit of the band in which things are obstacles, metres above the ground there")
    max_height: Metres = live_parameter(2.0, "upper limit of the band; include the height of the vehicle")
    drivable: tuple[str, ...] = live_parameter(
        (), "ground that may be driven on, other ground is unknown; empty: road, parking, sidewalk, terrain and their like"
    )

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> MapGridConfig:
        if self.min_height >= self.max_height:
            raise ValueError(f"min_height {self.min_height} must be less than max_height {self.max_height}")
        return self


class MapDistanceConfig(ParameterGroup):
    """~/map/distance."""

    max_rate_hz: float = max_rate("~/map/distance", 2.0)


class MapObjectsConfig(ParameterGroup):
    """~/map/objects."""

    max_rate_hz: float = max_rate("~/map/objects", 5.0)
    min_cells: int = live_parameter(3, "smaller objects are left out, cells", ge=1, le=10_000)


class MapKeepoutConfig(ParameterGroup):
    """~/map/keepout_mask."""

    max_rate_hz: float = max_rate("~/map/keepout_mask", 1.0)
    classes: tuple[str, ...] = live_parameter((), "classes that the robot has to stay off, such as sidewalk or terrain")


class MapSpeedConfig(ParameterGroup):
    """~/map/speed_mask."""

    max_rate_hz: float = max_rate("~/map/speed_mask", 2.0)
    classes: tuple[str, ...] = live_parameter((), "classes near which the robot has to be slow; empty: people and what they ride")
    distance: Metres = live_parameter(5.0, "how near that is, metres")
    percent: int = live_parameter(30, "largest speed there, percent of the robot's maximum", ge=1, le=100)


class MapParameters(MapConfig):
    """The rolling map in tf.world_frame: its constants (`occle_core.mapping`), and what is published of it."""

    update: Literal["subscribed", "always", "never"] = Field(
        "subscribed", description="when frames go into the map: while a topic ~/map/* has a subscriber, always, or never"
    )
    size: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0),
        description="extent along x, y, z around the robot, metres; 0, 0, 0: 250 x 250 x 20 cells (the shipped networks': 100 x "
        "100 x 8 m)",
    )
    resolution: float = Field(
        0.0, ge=0, description="edge length of a cell, metres, at most the network's, which 0 takes (the shipped ones': 0.4)"
    )
    max_rate_hz: float = max_rate("frames into the map", 10.0)
    file: str = Field("", description="map file of ~/save_map and ~/load_map; empty: map.occlemap in $ROS_HOME or ~/.ros")
    pose_timeout_ms: float = Field(
        300.0, ge=0, le=10_000, description="how long the map waits for the transform at a scan's stamp; the node does not wait"
    )
    voxels: MapVoxelsConfig = MapVoxelsConfig()
    markers: MapMarkersConfig = MapMarkersConfig()
    occupancy_grid: MapGridConfig = MapGridConfig()
    distance: MapDistanceConfig = MapDistanceConfig()
    objects: MapObjectsConfig = MapObjectsConfig()
    keepout_mask: MapKeepoutConfig = MapKeepoutConfig()
    speed_mask: MapSpeedConfig = MapSpeedConfig()

    @model_validator(mode="after")
    def _has_cells(self) -> MapParameters:
        return self  # `constants` looks, which knows the network's cell

    def constants(self, cell: float) -> MapConfig:
        """The map's own, for a network whose cells are `cell` long (metres).

        Raises:
            ConfigError: the map's cells are longer, or larger than the map.
        """
        if self.resolution > cell:
            raise ConfigError(
                f"parameter map.resolution: cells of {self.resolution:g} m are larger than the network's of {cell:g} m, and what "
                "is thin would fall between their centres; 0 takes the network's"
            )
        whole = MapConfig.of_cells(self.resolution or cell)
        size = self.size if any(self.size) else whole.size
        if min(size) < whole.resolution:
            raise ConfigError(f"parameter map.size: {list(size)} is smaller than a cell of {whole.resolution:g} m")
        values = self.model_dump(include=set(MapConfig.model_fields))
        return MapConfig.model_validate(values | {"size": size, "resolution": whole.resolution})
