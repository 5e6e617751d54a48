"""The node's configuration: one typed model that YAML files, ROS parameters and their descriptions are made from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from occle_ros.config_groups import (
    CameraConfig,
    ConfigError,
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
from occle_ros.parameter_files import read_parameters
from occle_ros.paths import with_home
from occle_ros.transport import share_file


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
    frames_at_once: int = Field(
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


def resolve(path: str, asked_by: str) -> Path:
    """A file or folder: absolute, relative to the working directory, or in share/occle_ros. `asked_by` is for the message.

    Raises:
        ConfigError: there is nothing of that name.
    """
    given = with_home(path)
    if given.exists():
        return given.resolve()
    try:
        if not given.is_absolute():
            return share_file(path)
    except FileNotFoundError:
        pass
    raise ConfigError(f"{asked_by}: there is no {path!r}, neither from {Path.cwd()} nor in share/occle_ros")


PRESETS = {
    "kitti": NodeConfig(),
    "nuscenes": NodeConfig.model_validate(
        {
            "bundle": "config/bundles/nuscenes",
            "camera_names": ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"],
            "cameras": {f"CAM_{side}": {"compressed": True} for side in
                        ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")},
            "sync": {"tolerance_ms": 60.0},
            "occupancy_grid": {"min_height": -0.6, "max_height": 2.2},
        }
    ),
}  # fmt: skip
"""The configurations that config/*.yaml are generated from: `python -m occle_ros.config NAME > config/NAME.yaml`."""


def preset_for(camera_names: Sequence[str]) -> str:
    """The shipped configuration (and bundle) for a rig with these cameras: "kitti" or "nuscenes".

    Raises:
        ConfigError: nothing is shipped for them.
    """
    for name, preset in PRESETS.items():
        if camera_names and set(camera_names) <= set(preset.camera_names):
            return name
    known = "; ".join(f"{name}: {', '.join(preset.camera_names)}" for name, preset in PRESETS.items())
    given = ", ".join(camera_names) or "(none)"
    raise ConfigError(f"no bundle is shipped for the cameras {given}; give your own bundle and configuration. Shipped: {known}")


def load_config(path: Path) -> NodeConfig:
    """Read a ROS parameter file as the node itself would take it.

    Raises:
        ConfigError: unreadable, of another form, or with unknown or impossible parameters.
    """
    return config_from_parameters(read_parameters(path), str(path))


def config_from_parameters(flat: Mapping[str, Any], source: str = "the node's parameters") -> NodeConfig:
    """Dotted parameter names and values -> configuration.

    Raises:
        ConfigError: a name is unknown (a close one is suggested) or a value is impossible.
    """
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{source}: {name!r} is inside of a parameter that is a value")
        place[leaf] = value
    try:
        return NodeConfig.model_validate(nested)
    except ValidationError as error:
        names = nested.get("camera_names")
        names = names if isinstance(names, (list, tuple)) else ["cam2"]
        usable = dict.fromkeys(str(name) for name in names if str(name).isidentifier())
        known = [parameter.name for parameter in parameters(tuple(usable))]
        raise ConfigError(f"{source}: " + "; ".join(_explain(problem, known) for problem in error.errors())) from error


class Parameter(Group):
    """What a ROS parameter declaration needs."""

    name: str
    default: Any
    description: str
    is_float: bool = False
    is_integer: bool = False
    is_live: bool = False
    choices: tuple[str, ...] = ()
    lowest: float | None = None
    highest: float | None = None


def parameters(camera_names: tuple[str, ...], defaults: NodeConfig | None = None) -> list[Parameter]:
    """All ROS parameters of a node with these cameras: dotted names, default values, descriptions, ranges."""
    config = defaults or NodeConfig.model_validate({"camera_names": camera_names})
    return list(_walk(config, ""))


def to_yaml(config: NodeConfig, comment: str = "") -> str:
    """The configuration as a ROS parameter file, each value after its description; unset matrices are left out."""
    lines = [f"# {comment}"] if comment else []
    lines += ["/**:", "  ros__parameters:"]
    opened: list[str] = []
    for parameter in parameters(config.camera_names, config):
        if parameter.default == ():
            continue
        *groups, leaf = parameter.name.split(".")
        common = next((i for i, (a, b) in enumerate(zip(groups, opened)) if a != b), min(len(groups), len(opened)))
        lines += [f"{'  ' * (2 + level)}{groups[level]}:" for level in range(common, len(groups))]
        opened = groups
        indent = "  " * (2 + len(groups))
        value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        if isinstance(value, str):
            text = f'"{value}"'
        lines += [f"{indent}# {parameter.description}", f"{indent}{leaf}: {text}"]
    return "\n".join(lines) + "\n"


def _walk(group: BaseModel, prefix: str) -> Iterator[Parameter]:
    for name, info in type(group).model_fields.items():
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for key, member in value.items():
                yield from _walk(member, f"{prefix}{name}.{key}.")
        else:
            yield _parameter(prefix + name, value, info)


def _parameter(name: str, value: Any, info: FieldInfo) -> Parameter:
    low = next((float(str(m.ge)) for m in info.metadata if isinstance(m, annotated_types.Ge)), None)
    low = next((float(str(m.gt)) for m in info.metadata if isinstance(m, annotated_types.Gt)), low)
    high = next((float(str(m.le)) for m in info.metadata if isinstance(m, annotated_types.Le)), None)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    is_live = isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("live"))
    choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    return Parameter(name=name, default=value, is_live=is_live, choices=choices,
                     description=info.description or "", lowest=low, highest=high,
                     is_float=isinstance(value, float), is_integer=is_integer)  # fmt: skip


def _explain(problem: Any, known: list[str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, known, n=1)
        return f"unknown parameter {name}" + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}")
    return f"{name}: {problem['msg']} (it is {problem['input']!r})" if name else str(problem["msg"]).removeprefix("Value error, ")


if __name__ == "__main__":
    import sys

    preset = sys.argv[1]
    print(to_yaml(PRESETS[preset], f"Parameters of the occupancy node; made by `python -m occle_ros.config {preset}`."), end="")
