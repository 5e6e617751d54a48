"""The node's configuration: one typed model that YAML files, ROS parameters and their descriptions are made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from occle_ros.config.groups import (
    CameraConfig,
    DebugConfig,
    EngineName,
    FramesConfig,
    Group,
    LatencyConfig,
    LidarConfig,
    MarkersConfig,
    Matrix,
    OccupancyGridConfig,
    OutputQosConfig,
    OverlayConfig,
    Precision,
    QosConfig,
    ShowConfig,
    SyncConfig,
    VoxelsConfig,
    live,
)
from occle_ros.config.share_paths import resolve


class NodeConfig(Group):
    """Everything the `occupancy` node can be told; the defaults are for the KITTI rig as `occle bag` writes it."""

    bundle: str = Field("config/bundles/kitti", min_length=1, description="folder of the network; relative: in share/occle_ros")
    calibration_file: str = Field(
        "", description="calibration.yaml, KITTI's calib.txt, or a data set's folder (#SCENE behind it); empty: parameters or TF"
    )
    T_grid_lidar: Matrix = Field((), description="16 numbers by rows, LiDAR to grid frame, metres; empty: calibration file or TF")
    engine: EngineName = Field("auto", description="what runs the network; auto: the fastest that works on this machine")
    precision: Precision = Field("fp32", description="of the engine's numbers; fp16 and int8 need an engine that offers them")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the network; 0: all cores")
    max_concurrent_frames: int = Field(
        2, ge=1, le=8, description="frames in work at the same time, which share the threads: 2 for the highest rate, 1 for latency"
    )
    autostart: bool = Field(True, description="configure and activate at the start; false: a lifecycle manager does it")
    build_only: bool = Field(False, description="load the bundle, build its engine, run it once, and end")
    report_file: str = Field("", description="JSON report of counters and latencies at the node's end; empty: none")
    timings_folder: str = Field("", description="where ~/save_timings writes; empty: $ROS_HOME or ~/.ros")
    unknown: bool = live(True, "cast rays, and call free cells that no sensor can have seen unknown in ~/occupancy_grid")
    lidar: LidarConfig = LidarConfig()
    camera_names: tuple[str, ...] = Field(("cam2",), description="cameras in the order that the network was trained with")
    cameras: dict[str, CameraConfig] = Field(default_factory=dict)
    sync: SyncConfig = SyncConfig()
    qos: QosConfig = QosConfig()
    output_qos: OutputQosConfig = OutputQosConfig()
    show: ShowConfig = ShowConfig()
    voxels: VoxelsConfig = VoxelsConfig()
    markers: MarkersConfig = MarkersConfig()
    occupancy_grid: OccupancyGridConfig = OccupancyGridConfig()
    overlay: OverlayConfig = OverlayConfig()
    debug: DebugConfig = DebugConfig()
    latency: LatencyConfig = LatencyConfig()
    frames: FramesConfig = FramesConfig()

    @field_validator("camera_names")
    @classmethod
    def _names_are_usable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names) or any(not name.isidentifier() for name in names):
            raise ValueError(f"camera names must be different identifiers, not {list(names)}")
        return names

    @model_validator(mode="before")
    @classmethod
    def _add_default_cameras(cls, data: Any) -> Any:
        """A camera that is only named gets the topics that `occle bag` writes; so do fields that are left out."""
        if not isinstance(data, Mapping):
            return data
        given = dict(data.get("cameras") or {})
        names = data.get("camera_names", cls.model_fields["camera_names"].default)
        if not isinstance(names, (list, tuple)):
            return data
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(f"cameras {', '.join(unknown)} are configured but not in camera_names ({', '.join(map(str, names))})")
        cameras = {}
        for name in names:
            camera = given.get(name, {})
            if isinstance(camera, Mapping):
                topic = f"/{name}/image/compressed" if camera.get("compressed") else f"/{name}/image"
                camera = {"topic": topic, "info_topic": f"/{name}/camera_info", **camera}
            cameras[name] = camera
        return {**data, "cameras": cameras}

    @model_validator(mode="after")
    def _matrices_have_16_numbers(self) -> NodeConfig:
        matrices = {"T_grid_lidar": self.T_grid_lidar}
        matrices |= {f"cameras.{name}.T_camera_lidar": camera.T_camera_lidar for name, camera in self.cameras.items()}
        for name, values in matrices.items():
            if len(values) not in (0, 16):
                raise ValueError(f"{name} needs 16 numbers (4x4 by rows), not {len(values)}")
        return self

    def bundle_dir(self) -> Path:
        """The bundle's folder: as given if absolute or found from here, else in the package's share folder.

        Raises:
            ConfigError: it is nowhere.
        """
        return resolve(self.bundle, "parameter bundle")
