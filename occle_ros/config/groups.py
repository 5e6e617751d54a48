# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parameter groups of the node: a description, a default and a range for each parameter."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from occle_core.rig.description import Offset
from occle_core.sensors.transforms import frame_name
from occle_ros.config.parameter_group import Matrix, ParameterGroup, live_parameter

Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Metres = Annotated[float, Field(ge=-1000, le=1000)]


def max_rate(topic: str, default: float = 0.0) -> Any:
    """Field of a topic's maximum rate."""
    return live_parameter(default, f"maximum rate of {topic}; 0: every frame", ge=0, le=1000)


class CameraConfig(ParameterGroup):
    """Input topics and calibration of one camera."""

    topic: str = Field(min_length=1, description="image topic; raw images are rectified by their CameraInfo")
    info_topic: str = Field("", description="CameraInfo topic; empty: intrinsics come from the calibration file")
    compressed: bool = Field(False, description="true: the topic's type is CompressedImage (JPEG or PNG); false: Image")
    time_offset_ms: Offset = Field(0.0, description="offset added to this camera's stamps before synchronisation")
    T_camera_lidar: Matrix = Field(
        (), description="LiDAR to camera, 16 numbers in row-major order, metres; empty: from the calibration file or TF"
    )


class SyncConfig(ParameterGroup):
    """Synchronisation of images with scans."""

    policy: Literal["lidar_led", "approximate_time"] = Field(
        "lidar_led",
        description="lidar_led: a late or silent camera is masked and the frame is processed without it; approximate_time: "
        "ApproximateTimeSynchronizer of message_filters, which waits for every camera",
    )
    tolerance_ms: Milliseconds = Field(50.0, description="largest difference between the stamps of a scan and its images")
    lidar_tolerance_ms: Milliseconds = Field(60.0, description="the same for the scans of further LiDARs, with policy lidar_led")
    deadline_ms: Milliseconds = Field(
        150.0, description="a frame waits this long for its images; then the missing cameras are masked"
    )


class QosConfig(ParameterGroup):
    """Quality of service of the input subscriptions."""

    reliability: Literal["auto", "reliable", "best_effort"] = Field(
        "auto",
        description="auto: reliable, or best effort where a publisher offers only that (sensor data); best_effort loses large "
        "messages where there is no shared memory",
    )
    depth: int = Field(5, ge=1, le=1000, description="history depth (keep last) of every input topic")
    durability: Literal["volatile", "transient_local"] = Field(
        "volatile", description="transient_local also requests the messages that publishers keep for late subscribers"
    )


class OutputQosConfig(ParameterGroup):
    """Quality of service of the published topics."""

    reliability: Literal["reliable", "best_effort"] = Field(
        "reliable", description="reliable fits every subscriber; best_effort fits best-effort subscribers only and never blocks"
    )
    depth: int = Field(10, ge=1, le=1000, description="history depth (keep last) of every output topic")
    durability: Literal["volatile", "transient_local"] = Field(
        "volatile", description="transient_local keeps the last messages for late subscribers; ~/occupancy_grid always does"
    )


class ShowConfig(ParameterGroup):
    """Filter of the voxels in ~/voxels, ~/markers and ~/overlay; ~/occupancy_grid always uses all voxels."""

    classes: tuple[str, ...] = live_parameter((), "classes to publish, by name; empty: all")
    min_confidence: float = live_parameter(0.0, "voxels with a lower confidence are not published", ge=0, le=1)


class VoxelsConfig(ParameterGroup):
    """~/voxels, the PointCloud2 of occupied voxels."""

    max_rate_hz: float = max_rate("~/voxels")
    include_unknown: bool = live_parameter(False, "also publish unobserved cells, with label 255 and confidence 0")


class MarkersConfig(ParameterGroup):
    """~/markers, the MarkerArray of occupied voxels."""

    max_rate_hz: float = max_rate("~/markers")
    max_voxels: int = live_parameter(
        60_000, "largest number of cubes in one MarkerArray, nearest first; viewers are slow with more", ge=1, le=2_000_000
    )
    surface_only: bool = live_parameter(True, "omit voxels whose six neighbours are all occupied")


class OccupancyGridConfig(ParameterGroup):
    """~/occupancy_grid, the two-dimensional costmap for planners."""

    max_rate_hz: float = max_rate("~/occupancy_grid")
    min_height: Metres = live_parameter(-2.0, "lower limit of the height band that is projected, metres, z of the grid frame")
    max_height: Metres = live_parameter(0.4, "upper limit of the height band; include the height of the vehicle")
    drivable: tuple[str, ...] = live_parameter(
        (), "classes that are not obstacles; empty: road, parking, driveable_surface and floor"
    )

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> OccupancyGridConfig:
        if self.min_height >= self.max_height:
            raise ValueError(f"min_height {self.min_height} must be less than max_height {self.max_height}")
        return self


class ObstaclesConfig(ParameterGroup):
    """~/obstacles, the occupied voxels that are no ground, for obstacle layers."""

    max_rate_hz: float = max_rate("~/obstacles")
    min_height: Metres = live_parameter(-2.0, "lower limit of the height band, metres, z of the grid frame")
    max_height: Metres = live_parameter(0.4, "upper limit of the height band; include the height of the vehicle")
    ground: tuple[str, ...] = live_parameter(
        (), "classes that are ground, not obstacles; empty: road, parking, sidewalk, terrain and their like"
    )

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> ObstaclesConfig:
        if self.min_height >= self.max_height:
            raise ValueError(f"min_height {self.min_height} must be less than max_height {self.max_height}")
        return self


class OverlayConfig(ParameterGroup):
    """~/overlay/<camera>, camera images with the voxels projected into them."""

    max_rate_hz: float = max_rate("~/overlay/<camera>", 1.0)
    alpha: float = live_parameter(0.55, "opacity of the voxels", ge=0, le=1)


class DebugConfig(ParameterGroup):
    """~/debug/*, timings as topics."""

    max_rate_hz: float = max_rate("~/debug/*")


class DiagnosticsConfig(ParameterGroup):
    """Thresholds of /diagnostics."""

    latency_warn_ms: Milliseconds = live_parameter(300.0, "WARN if the median latency from stamp to publication exceeds this")
    latency_error_ms: Milliseconds = live_parameter(1000.0, "ERROR if the median latency exceeds this")
    input_timeout_s: float = live_parameter(5.0, "ERROR if no scan was received for this long", gt=0, le=3600)


class TfConfig(ParameterGroup):
    """Coordinate frames."""

    lidar_frame: str = Field(
        "", description="frame of the scans, for TF and for the calibration file's lidar_frame; empty: frame_id of the scans"
    )
    grid_frame: str = Field("", description="frame of the published voxels; empty: grid_frame of the calibration file")
    world_frame: str = Field(
        "odom",
        min_length=1,
        description="continuous frame of the robot's motion (REP 105): the map lies in it, and networks with a history look up the "
        "scans' poses in it",
    )

    @field_validator("*")
    @classmethod
    def _no_leading_slash(cls, name: str) -> str:
        """As tf2 has it; RViz refuses messages in frames with one."""
        return frame_name(name)
