"""The node's topics and services by name: what it publishes, subscribes to and answers, for the node and for its documentation."""

from __future__ import annotations

from dataclasses import dataclass

from occle_ros.config.node_config import NodeConfig
from occle_ros.topics.inputs import inputs_of, type_name


@dataclass(frozen=True)
class Topic:
    """One topic.

    Args:
        name: as the node asks for it; ~ stands for the node's name.
        kind: message type.
        meaning: what is in it, and when it comes.
        latched: the last message is kept for subscribers that come later (transient_local).
    """

    name: str
    kind: str
    meaning: str
    latched: bool = False


VOXELS = Topic(
    "~/voxels",
    "sensor_msgs/msg/PointCloud2",
    "the occupied voxels' centres: x, y, z (float32, metres), label (uint8), confidence (float32, 0..1), rgb; with voxels.unknown "
    "also the cells that no sensor can have seen, label 255",
)
MARKERS = Topic(
    "~/markers",
    "visualization_msgs/msg/MarkerArray",
    "a CUBE_LIST for each class, with the class id as marker id; DELETEALL when the scans stop or the node is deactivated",
)
OCCUPANCY_GRID = Topic(
    "~/occupancy_grid",
    "nav_msgs/msg/OccupancyGrid",
    "seen from above: 100 where an obstacle stands in the height band, 0 where it is drivable or seen to be free, -1 unknown",
    latched=True,
)
LATENCY = Topic("~/debug/pipeline_latency_ms", "std_msgs/msg/Float64", "from the scan's stamp to the end of the publication")
DIAGNOSTICS = Topic(
    "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "once a second: the pipeline's state and one entry for each camera"
)
OUTPUTS = (VOXELS, MARKERS, OCCUPANCY_GRID)


@dataclass(frozen=True)
class Service:
    """One service.

    Args:
        name: as the node offers it.
        kind: service type.
        meaning: what it does and answers.
    """

    name: str
    kind: str
    meaning: str


SAVE_TIMINGS = Service(
    "~/save_timings", "std_srvs/srv/Trigger", "writes the latest frames' times as CSV (timings_folder); the answer names the file"
)
RELOAD_BUNDLE = Service(
    "~/reload_bundle",
    "std_srvs/srv/Trigger",
    "loads the bundle's folder again beside the running network and swaps it in between two frames; if that fails the old one "
    "goes on, and the answer says why",
)
SERVICES = (SAVE_TIMINGS, RELOAD_BUNDLE)


def overlay(camera: str) -> Topic:
    """The overlay of a camera."""
    return Topic(f"~/overlay/{camera}", "sensor_msgs/msg/Image", "the camera's image (rgb8) with the voxels projected into it")


def stage(name: str) -> Topic:
    """The time of one stage."""
    return Topic(f"~/debug/processing_time/{name}_ms", "std_msgs/msg/Float64", f"time of the stage {name}, every frame")


def published(config: NodeConfig, stages: tuple[str, ...]) -> list[Topic]:
    """Everything that a node with this configuration publishes."""
    return [*OUTPUTS, *map(overlay, config.camera_names), LATENCY, *map(stage, stages), DIAGNOSTICS]


def subscribed(config: NodeConfig) -> list[Topic]:
    """Everything that a node with this configuration subscribes to, without TF and /clock."""
    return [Topic(wanted.topic, type_name(wanted.message), wanted.name) for wanted in inputs_of(config)]
