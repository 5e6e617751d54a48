# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Names, types and descriptions of the node's topics and services, for the node and its documentation."""

from __future__ import annotations

from dataclasses import dataclass

from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.label_info import label_info_type
from occle_ros.messages.objects import objects_type
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
    "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "once a second: state of the pipeline, of the map and of each camera"
)
MAP_VOXELS = Topic(
    "~/map/voxels",
    "sensor_msgs/msg/PointCloud2",
    "the whole map around the robot: centres of its occupied cells in tf.world_frame, fields as ~/voxels; confidence is the "
    "probability of occupancy, label 255 where no class was named yet",
    latched=True,
)
MAP_VOXELS_UPDATES = Topic(
    "~/map/voxels_updates",
    "sensor_msgs/msg/PointCloud2",
    "with every frame: all cells that differ from the newest ~/map/voxels, the free class's label where a cell is no longer "
    "occupied; one message replaces the one before",
)
MAP_MARKERS = Topic("~/map/markers", "visualization_msgs/msg/MarkerArray", "the map's cells that have a class, as ~/markers")
MAP_GRID = Topic(
    "~/map/occupancy_grid",
    "nav_msgs/msg/OccupancyGrid",
    "the map from above in tf.world_frame, for nav2's static layer: 100 obstacle in the height band, 0 drivable, -1 unknown",
    latched=True,
)
MAP_GRID_UPDATES = Topic(
    "~/map/occupancy_grid_updates",
    "map_msgs/msg/OccupancyGridUpdate",
    "the box of all cells that differ from the newest ~/map/occupancy_grid, in its cells; only where map_msgs is installed",
)
MAP_DISTANCE = Topic(
    "~/map/distance",
    "sensor_msgs/msg/PointCloud2",
    "per column of ~/map/occupancy_grid (organised, row-major along x): x, y, z of the ground (NaN: no ground mapped), and "
    "distance (float32, metres) from the nearest obstacle column, infinite without one",
)
MAP_OBJECTS = Topic(
    "~/map/objects",
    objects_type(),
    "boxes of vehicles, people and what they ride: vision_msgs/Detection3DArray where it is installed, else a MarkerArray of CUBEs",
)
MAP_KEEPOUT = Topic(
    "~/map/keepout_mask",
    "nav_msgs/msg/OccupancyGrid",
    "for nav2's KeepoutFilter: 100 in columns of ~/map/occupancy_grid that hold a class of map.keepout_mask.classes, else -1",
    latched=True,
)
MAP_SPEED = Topic(
    "~/map/speed_mask",
    "nav_msgs/msg/OccupancyGrid",
    "for nav2's SpeedFilter: map.speed_mask.percent (of the maximum speed) near the classes of map.speed_mask.classes, else 0",
    latched=True,
)
MAP_OUTPUTS = (
    MAP_VOXELS,
    MAP_VOXELS_UPDATES,
    MAP_MARKERS,
    MAP_GRID,
    MAP_GRID_UPDATES,
    MAP_DISTANCE,
    MAP_OBJECTS,
    MAP_KEEPOUT,
    MAP_SPEED,
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
SAVE_MAP = Service(
    "~/save_map", "std_srvs/srv/Trigger", "writes the map into parameter map.file, whole or not at all; the response names it"
)
LOAD_MAP = Service(
    "~/load_map",
    "std_srvs/srv/Trigger",
    "replaces the map by that of map.file, if it has the same frame, size, resolution and classes; tf.world_frame has to stand "
    "where it stood",
)
CLEAR_MAP = Service("~/clear_map", "std_srvs/srv/Trigger", "forgets the map; it starts anew with the next frame")
PAUSE_MAP = Service(
    "~/pause_map", "std_srvs/srv/SetBool", "true: no frames go into the map and it stays as it is; false: they do again"
)
SERVICES = (SAVE_TIMINGS, RELOAD_BUNDLE, SAVE_MAP, LOAD_MAP, CLEAR_MAP, PAUSE_MAP)


def overlay(camera: str) -> Topic:
    """Overlay topic of a camera."""
    return Topic(
        f"~/overlay/{camera}",
        "sensor_msgs/msg/Image",
        "camera image (rgb8, as decoded: large JPEGs at half size) with the voxels projected into it",
    )


def stage(name: str) -> Topic:
    """Timing topic of one stage."""
    return Topic(f"~/debug/processing_time/{name}_ms", "std_msgs/msg/Float64", f"time of stage {name}")


def published(config: NodeConfig, stages: tuple[str, ...]) -> list[Topic]:
    """Topics that a node with this configuration publishes."""
    return [*OUTPUTS, *MAP_OUTPUTS, *map(overlay, config.camera_names), LATENCY, *map(stage, stages), DIAGNOSTICS]


def subscribed(config: NodeConfig) -> list[Topic]:
    """Topics that a node with this configuration subscribes to, without TF and /clock."""
    return [Topic(wanted.topic, type_name(wanted.message), wanted.name) for wanted in input_topics(config)]
