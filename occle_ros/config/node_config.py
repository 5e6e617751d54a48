# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Typed configuration of the node; YAML files, ROS parameters and their descriptions are generated from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from occle_ros.config.groups import (
    CameraConfig,
    DebugConfig,
    DiagnosticsConfig,
    MarkersConfig,
    ObstaclesConfig,
    OccupancyGridConfig,
    OutputQosConfig,
    OverlayConfig,
    QosConfig,
    ShowConfig,
    SyncConfig,
    TfConfig,
    VoxelsConfig,
)
from occle_ros.config.lidars import FurtherLidarConfig, LidarConfig
from occle_ros.config.map_groups import MapParameters
from occle_ros.config.names import EngineName, Precision
from occle_ros.config.parameter_group import ConfigError, Matrix, ParameterGroup, live_parameter
from occle_ros.config.share_paths import resolve_bundle

MAIN_LIDAR = "lidar"
"""Name of the main LiDAR beside those in lidar_names, in counters and diagnostics."""


class NodeConfig(ParameterGroup):
    """Configuration of the `occupancy` node; the defaults are for the KITTI rig as `occle bag` writes it."""

    bundle: str = Field(
        "config/bundles/kitti",
        min_length=1,
        description="folder of the network; a relative path is looked up in share/occle_ros as well",
    )
    rig: str = Field(
        "",
        description="rig.yaml with sensors, frames and tolerances (docs/reference/rig.md); parameters given here take precedence",
    )
    calibration_file: str = Field(
        "", description="calibration.yaml, KITTI's calib.txt or a data set folder (FOLDER#SCENE); empty: from parameters or TF"
    )
    T_grid_lidar: Matrix = Field(
        (), description="LiDAR to grid frame, 16 numbers in row-major order, metres; empty: from the calibration file or TF"
    )
    engine: EngineName = Field("auto", description="inference engine; auto: the fastest one that works on this machine")
    precision: Precision = Field(
        "fp32", description="numeric precision of the engine; fp16 and int8 need an engine that supports them"
    )
    threads: int = Field(0, ge=0, le=256, description="CPU threads for inference; 0: all cores")
    max_concurrent_frames: int = Field(
        2, ge=1, le=8, description="frames processed concurrently, which share the threads: 2 for throughput, 1 for latency"
    )
    autostart: bool = Field(True, description="configure and activate at startup; false: a lifecycle manager does it")
    build_only: bool = Field(False, description="load the bundle, build its engine, run it once and exit")
    report_file: str = Field("", description="JSON report of counters and latencies, written at shutdown; empty: none")
    timings_folder: str = Field("", description="output folder of ~/save_timings; empty: $ROS_HOME or ~/.ros")
    mark_unknown: bool = live_parameter(True, "cast rays and mark unobserved free cells as unknown (-1) in ~/occupancy_grid")
    lidar: LidarConfig = LidarConfig()
    lidar_names: tuple[str, ...] = Field((), description="further LiDARs, whose points are merged into the scans of lidar.topic")
    lidars: dict[str, FurtherLidarConfig] = Field(default_factory=dict)
    camera_names: tuple[str, ...] = Field(("cam2",), description="cameras, in the order of the network's training")
    cameras: dict[str, CameraConfig] = Field(default_factory=dict)
    sync: SyncConfig = SyncConfig()
    qos: QosConfig = QosConfig()
    output_qos: OutputQosConfig = OutputQosConfig()
    show: ShowConfig = ShowConfig()
    voxels: VoxelsConfig = VoxelsConfig()
    markers: MarkersConfig = MarkersConfig()
    occupancy_grid: OccupancyGridConfig = OccupancyGridConfig()
    obstacles: ObstaclesConfig = ObstaclesConfig()
    map: MapParameters = MapParameters()
    overlay: OverlayConfig = OverlayConfig()
    debug: DebugConfig = DebugConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    tf: TfConfig = TfConfig()

    @field_validator("camera_names")
    @classmethod
    def _names_are_usable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names) or any(not name.isidentifier() for name in names):
            raise ValueError(f"camera names must be different identifiers (letters, digits, _), not {list(names)}")
        return names

    @model_validator(mode="before")
    @classmethod
    def _add_default_cameras(cls, data: Any) -> Any:
        """Fill in the default topics of every camera, as `occle bag` writes them."""
        if not isinstance(data, Mapping):
            return data
        given = dict(data.get("cameras") or {})
        names = data.get("camera_names", cls.model_fields["camera_names"].default)
        if not isinstance(names, (list, tuple)):
            return data
        # ROS parameter files and launch files cannot give an empty list of strings: [""] stands for no camera.
        names = [name for name in names if name != ""]
        data = {**data, "camera_names": names}
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(f"cameras {', '.join(unknown)} are configured but not in camera_names ({', '.join(map(str, names))})")
        cameras = {}
        for name in names:
            camera = given.get(name, {})
            if isinstance(camera, Mapping):
                topic = f"{name}/image/compressed" if camera.get("compressed") else f"{name}/image"
                camera = {"topic": topic, "info_topic": f"{name}/camera_info", **camera}
            cameras[name] = camera
        return {**data, "cameras": cameras}

    @model_validator(mode="before")
    @classmethod
    def _add_further_lidars(cls, data: Any) -> Any:
        """Fill in the default topic of every further LiDAR."""
        names = data.get("lidar_names", ()) if isinstance(data, Mapping) else None
        if not isinstance(names, (list, tuple)):
            return data
        names, given = [name for name in names if name != ""], dict(data.get("lidars") or {})
        if unknown := sorted(set(given) - set(names)):
            raise ValueError(f"lidars {', '.join(unknown)} are configured but not in lidar_names ({', '.join(map(str, names))})")
        taken = {MAIN_LIDAR, *map(str, data.get("camera_names", ()))}
        if len(set(names)) != len(names) or any(not str(name).isidentifier() or name in taken for name in names):
            raise ValueError(
                f"lidar_names must be different identifiers (letters, digits, _), none {MAIN_LIDAR!r} or a camera's, not {names}"
            )
        lidars = {}
        for name in names:
            lidar = given.get(name, {})
            lidars[name] = {"topic": f"{name}/points", **lidar} if isinstance(lidar, Mapping) else lidar
        return {**data, "lidar_names": names, "lidars": lidars}

    @model_validator(mode="after")
    def _matrices_have_16_numbers(self) -> NodeConfig:
        matrices = {"T_grid_lidar": self.T_grid_lidar}
        matrices |= {f"cameras.{name}.T_camera_lidar": camera.T_camera_lidar for name, camera in self.cameras.items()}
        matrices |= {f"lidars.{name}.T_lidar": lidar.T_lidar for name, lidar in self.lidars.items()}
        for name, values in matrices.items():
            if len(values) not in (0, 16):
                raise ValueError(f"{name} needs 16 numbers (4x4 by rows), not {len(values)}")
        return self

    @model_validator(mode="after")
    def _topics_differ(self) -> NodeConfig:
        if problem := _same_topic(self):
            raise ValueError(problem)
        return self

    def bundle_dir(self) -> Path:
        """Folder of the bundle: as given if that exists, else in the package's share folder.

        Raises:
            ConfigError: there is no such folder.
        """
        return resolve_bundle(self.bundle, "parameter bundle")


def resolve_topics(config: NodeConfig, resolve: Callable[[str], str]) -> NodeConfig:
    """Configuration with resolved input topics: namespace, ~ and remapping rules applied.

    Args:
        config: topics as parameters give them, relative ones among them.
        resolve: `Node.resolve_topic_name`, or `absolute_topic` where there is no node.

    Raises:
        ConfigError: two sensors have the same topic then.
    """
    cameras = {
        name: camera.model_copy(
            update={"topic": resolve(camera.topic), "info_topic": resolve(camera.info_topic) if camera.info_topic else ""}
        )
        for name, camera in config.cameras.items()
    }
    odometry = config.lidar.odometry_topic
    topics = {"topic": resolve(config.lidar.topic), "odometry_topic": resolve(odometry) if odometry else ""}
    lidar = config.lidar.model_copy(update=topics)
    lidars = {name: each.model_copy(update={"topic": resolve(each.topic)}) for name, each in config.lidars.items()}
    resolved = config.model_copy(update={"lidar": lidar, "lidars": lidars, "cameras": cameras})
    if problem := _same_topic(resolved):
        raise ConfigError(problem)
    return resolved


def _same_topic(config: NodeConfig) -> str:
    """The parameters that name the same topic; "" if each sensor has its own."""
    lidars = {"lidar.topic": config.lidar.topic} | {f"lidars.{name}.topic": each.topic for name, each in config.lidars.items()}
    images = {f"cameras.{name}.topic": camera.topic for name, camera in config.cameras.items()}
    infos = {f"cameras.{name}.info_topic": camera.info_topic for name, camera in config.cameras.items() if camera.info_topic}
    for topics in (lidars, images, infos):
        for topic in topics.values():
            if len(same := [name for name, other in topics.items() if other == topic]) > 1:
                return f"{' and '.join(same)} are the same topic {topic}; each sensor needs its own"
    return ""


def absolute_topic(topic: str, namespace: str = "") -> str:
    """Absolute name of a topic; a relative one lies in the namespace."""
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    return topic if topic.startswith("/") else f"{prefix}/{topic}"
