"""The groups of the node's parameters, with a description, a default and a range for each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Matrix = Annotated[tuple[float, ...], Field(max_length=16)]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Metres = Annotated[float, Field(ge=-1000, le=1000)]
EngineName = Literal["auto", "native", "torch", "torch_graph", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"]
Precision = Literal["fp32", "fp16", "int8"]


class ConfigError(ValueError):
    """A configuration that the node cannot run with; the message names the parameter and says what would be right."""


class Group(BaseModel):
    """Parameters with a common prefix; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def live(default: Any, description: str, **limits: Any) -> Any:
    """A field that may change while the node runs; `limits` are pydantic's ge, gt, le, lt."""
    return Field(default, description=description, json_schema_extra={"live": True}, **limits)


def _rate(topic: str, default: float = 0.0) -> Any:
    return live(default, f"publish {topic} no more often than this; 0: every frame", ge=0, le=1000)


class LidarConfig(Group):
    """Where the scans come from."""

    topic: str = Field("/lidar/points", min_length=1, description="PointCloud2 topic of the scans; a scan opens a frame")
    intensity_scale: float = Field(1.0, gt=0, le=1e6, description="factor that brings the sensor's intensity to 0..1")
    exclude_box: tuple[float, ...] = Field(
        (),
        description="6 numbers, x, y, z of the lowest corner and of the highest, metres, grid frame: points inside are the robot's "
        "own body and are left out; empty: none are",
    )

    @field_validator("exclude_box")
    @classmethod
    def _box_has_a_volume(cls, box: tuple[float, ...]) -> tuple[float, ...]:
        if box and not (len(box) == 6 and all(low < high for low, high in zip(box[:3], box[3:]))):
            raise ValueError(f"needs 6 numbers, the lowest corner's x, y, z before the highest's, not {list(box)}")
        return box


class CameraConfig(Group):
    """Where one camera's images and calibration come from."""

    topic: str = Field(min_length=1, description="topic of the images; raw ones are rectified here by their CameraInfo")
    info_topic: str = Field("", description="CameraInfo topic; empty: the calibration file gives the intrinsics")
    compressed: bool = Field(False, description="true: the image topic carries CompressedImage (JPEG or PNG), false: Image")
    time_offset_ms: float = Field(0.0, ge=-1000, le=1000, description="added to this camera's stamps before matching")
    T_camera_lidar: Matrix = Field((), description="16 numbers by rows, LiDAR to camera, metres; empty: calibration file or TF")


class SyncConfig(Group):
    """How images are matched with scans."""

    policy: Literal["lidar", "approximate"] = Field(
        "lidar",
        description="lidar: frames go on without a late or silent camera; approximate: message_filters', which waits for all",
    )
    tolerance_ms: Milliseconds = Field(50.0, description="an image belongs to a scan if their stamps differ by no more than this")
    deadline_ms: Milliseconds = Field(150.0, description="a frame waits so long for its images, then goes on without")


class QosConfig(Group):
    """Quality of service of the input subscriptions."""

    reliability: Literal["auto", "reliable", "best_effort"] = Field(
        "auto",
        description="auto: reliable, but best effort for topics whose publishers offer no more (sensor data); best_effort loses "
        "large messages without shared memory",
    )
    depth: int = Field(5, ge=1, le=1000, description="messages that are kept per input topic until the node takes them")
    durability: Literal["volatile", "transient_local"] = Field(
        "volatile", description="transient_local also asks for what was sent before, of publishers that keep it"
    )


class OutputQosConfig(Group):
    """Quality of service of the published topics."""

    reliability: Literal["reliable", "best_effort"] = Field(
        "reliable", description="reliable serves every subscriber; best_effort only those that ask for no more, and never waits"
    )
    depth: int = Field(10, ge=1, le=1000, description="messages that are kept per output topic for slow reliable subscribers")
    durability: Literal["volatile", "transient_local"] = Field(
        "volatile", description="transient_local keeps the last messages for later subscribers; ~/occupancy_grid always does"
    )


class ShowConfig(Group):
    """Which voxels ~/voxels, ~/markers and ~/overlay show; ~/occupancy_grid always counts all."""

    classes: tuple[str, ...] = live((), "names of the classes that are shown; empty: all")
    min_confidence: float = live(0.0, "voxels with less confidence than this are not shown", ge=0, le=1)


class VoxelsConfig(Group):
    """The PointCloud2 of occupied voxels."""

    max_rate_hz: float = _rate("~/voxels")
    unknown: bool = live(False, "also publish the cells that no sensor can have seen, with label 255 and confidence 0")


class MarkersConfig(Group):
    """The MarkerArray of occupied voxels."""

    max_rate_hz: float = _rate("~/markers")
    max_voxels: int = live(60_000, "cubes in one MarkerArray, the nearest; viewers become slow with more", ge=1, le=2_000_000)
    surface_only: bool = live(True, "leave out voxels whose six neighbours are all occupied")


class OccupancyGridConfig(Group):
    """The two-dimensional grid for planners."""

    max_rate_hz: float = _rate("~/occupancy_grid")
    min_height: Metres = live(-2.0, "lower end of the band whose voxels count, metres, z of the grid frame")
    max_height: Metres = live(0.4, "upper end of that band; the height of the vehicle above the ground belongs in it")
    drivable: tuple[str, ...] = live((), "classes that are no obstacles; empty: road, parking and driveable_surface")

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> OccupancyGridConfig:
        if self.min_height >= self.max_height:
            raise ValueError(f"min_height {self.min_height} is not below max_height {self.max_height}")
        return self


class OverlayConfig(Group):
    """The camera images with the voxels projected into them."""

    max_rate_hz: float = _rate("~/overlay/<camera>", 1.0)
    alpha: float = live(0.55, "opacity of the voxels", ge=0, le=1)


class DebugConfig(Group):
    """Timings as topics."""

    max_rate_hz: float = _rate("~/debug/*")


class LatencyConfig(Group):
    """When /diagnostics warns."""

    warn_ms: Milliseconds = live(300.0, "/diagnostics warns when the median stamp-to-publish latency exceeds this")
    error_ms: Milliseconds = live(1000.0, "/diagnostics reports an error when the median latency exceeds this")
    input_timeout_s: float = live(5.0, "/diagnostics reports an error when no scan came for so long", gt=0, le=3600)


class FramesConfig(Group):
    """Coordinate frames."""

    lidar: str = Field(
        "", description="frame of the scans, for TF and the calibration file's lidar_frame; empty: what their headers say"
    )
    grid: str = Field("", description="frame that the voxels are published in; empty: what the calibration file says")
    world: str = Field(
        "map", min_length=1, description="frame that stands still: networks that look at past frames take the poses in it from TF"
    )
