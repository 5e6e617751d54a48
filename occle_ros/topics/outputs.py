"""Names, types and descriptions of the node's topics and services, for the node and its documentation."""

from __future__ import annotations

from dataclasses import dataclass

from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.label_info import label_info_type
from occle_ros.topics.inputs import input_topics, type_name


@dataclass(frozen=True)
class Topic:
    """One topic.

    Args:
        name: as given to rclpy; ~ stands for the node's name.
        kind: message type.
        description: content and conditions.
        latched: the last message is kept for late subscribers (transient_local).
    """

    name: str
    kind: str
    description: str
    latched: bool = False


VOXELS = Topic(
    "~/voxels",
    "sensor_msgs/msg/PointCloud2",
    "centres of the occupied voxels: x, y, z (float32, metres), label (uint8), confidence (float32, 0..1), rgb; with "
    "voxels.include_unknown also unobserved cells, label 255",
)
MARKERS = Topic(
    "~/markers",
    "visualization_msgs/msg/MarkerArray",
    "one CUBE_LIST per class, with the class id as marker id; DELETEALL when the scans stop or the node is deactivated",
)
OCCUPANCY_GRID = Topic(
    "~/occupancy_grid",
    "nav_msgs/msg/OccupancyGrid",
    "costmap of the height band: 100 obstacle, 0 drivable or observed free, -1 unknown",
    latched=True,
)
OBSTACLES = Topic(
    "~/obstacles",
    "sensor_msgs/msg/PointCloud2",
    "centres (x, y, z, float32, metres) of the occupied voxels that are no ground, in the band obstacles.*: for obstacle layers",
)
LABEL_INFO = Topic(
    "~/label_info",
    label_info_type(),
    "names of the class ids, once: vision_msgs/LabelInfo where it is installed, else a String of JSON with colours",
    latched=True,
)
LATENCY = Topic(
    "~/debug/pipeline_latency_ms", "std_msgs/msg/Float64", "latency from the scan's stamp to the end of its publication"
)
DIAGNOSTICS = Topic(
    "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "once a second: state of the pipeline and of each camera"
)
OUTPUTS = (VOXELS, MARKERS, OCCUPANCY_GRID, OBSTACLES, LABEL_INFO)


@dataclass(frozen=True)
class Service:
    """One service.

    Args:
        name: as given to rclpy.
        kind: service type.
        description: its effect and response.
    """

    name: str
    kind: str
    description: str


SAVE_TIMINGS = Service(
    "~/save_timings",
    "std_srvs/srv/Trigger",
    "writes the timings of the newest frames as CSV into timings_folder; the response names the file",
)
RELOAD_BUNDLE = Service(
    "~/reload_bundle",
    "std_srvs/srv/Trigger",
    "reloads the bundle while the old network is running and swaps it between two frames; if that fails, the old network stays "
    "in use and the response gives the reason",
)
SERVICES = (SAVE_TIMINGS, RELOAD_BUNDLE)


def overlay(camera: str) -> Topic:
    """Overlay topic of a camera."""
    return Topic(f"~/overlay/{camera}", "sensor_msgs/msg/Image", "camera image (rgb8) with the voxels projected into it")


def stage(name: str) -> Topic:
    """Timing topic of one stage."""
    return Topic(f"~/debug/processing_time/{name}_ms", "std_msgs/msg/Float64", f"time of stage {name}")


def published(config: NodeConfig, stages: tuple[str, ...]) -> list[Topic]:
    """Topics that a node with this configuration publishes."""
    return [*OUTPUTS, *map(overlay, config.camera_names), LATENCY, *map(stage, stages), DIAGNOSTICS]


def subscribed(config: NodeConfig) -> list[Topic]:
    """Topics that a node with this configuration subscribes to, without TF and /clock."""
    return [Topic(wanted.topic, type_name(wanted.message), wanted.name) for wanted in input_topics(config)]
