"""The topics that a configuration needs, and why nothing comes on one of them."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_ros.config.node_config import NodeConfig
from occle_ros.topics.qos import describe, mismatch


@dataclass(frozen=True)
class Input:
    """One topic that the node subscribes to.

    Args:
        name: what is said of it: "scan", "image of cam2", "CameraInfo of cam2".
        topic: as configured.
        message: its type.
        topic_parameter: the parameter that names the topic.
        camera: name of the camera; empty for the LiDAR.
        once: one message is enough (calibration).
    """

    name: str
    topic: str
    message: type[Any]
    topic_parameter: str
    camera: str = ""
    once: bool = False


@dataclass(frozen=True)
class Problem:
    """What is wrong, and the setting or command that mends it; where `mend` is empty, the text says that too."""

    text: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.mend}" if self.mend else self.text


def inputs_of(config: NodeConfig) -> list[Input]:
    """What the node subscribes to, LiDAR first."""
    inputs = [Input("scan", config.lidar.topic, PointCloud2, "lidar.topic")]
    for name in config.camera_names:
        camera, prefix = config.cameras[name], f"cameras.{name}"
        kind = CompressedImage if camera.compressed else Image
        inputs.append(Input(f"image of {name}", camera.topic, kind, f"{prefix}.topic", name))
        if camera.info_topic:
            inputs.append(Input(f"CameraInfo of {name}", camera.info_topic, CameraInfo, f"{prefix}.info_topic", name, once=True))
    return inputs


def type_name(message: type[Any]) -> str:
    """A message class's name in the graph, such as sensor_msgs/msg/Image."""
    return f"{message.__module__.split('.')[0]}/msg/{message.__name__}"


def why_silent(node: Node, wanted: Input, qos: QoSProfile) -> Problem:
    """Why no message of a topic comes, as far as the graph tells.

    Args:
        node: asks the graph.
        wanted: what is missing.
        qos: what our subscription asks for.
    """
    topic, kind = node.resolve_topic_name(wanted.topic), type_name(wanted.message)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return _nobody_publishes(node, wanted, topic, kind)
    right = [publisher for publisher in publishers if publisher.topic_type == kind]
    if not right:
        return _other_type(wanted, topic, kind, publishers[0])
    for publisher in right:
        if why := mismatch(publisher.qos_profile, qos):
            return Problem(f"{_full_name(publisher)} {why[0]} on {topic}", why[1])
    names = ", ".join(_full_name(publisher) for publisher in right[:3])
    text = f"{names} publishes {topic} ({describe(right[0].qos_profile)}) and fits what we ask, but no message comes"
    if qos.reliability == ReliabilityPolicy.BEST_EFFORT and wanted.message in (Image, PointCloud2):
        return Problem(
            text,
            "large best-effort messages are lost without shared memory: start the publisher with FASTDDS_DEFAULT_PROFILES_FILE="
            "<share/occle_ros>/config/fastdds_shm.xml, or set parameter qos.reliability:=reliable where it offers that",
        )
    return Problem(text, f"see whether it sends at all: `ros2 topic hz {topic}` (a paused bag or a sensor that is off does not)")


def _nobody_publishes(node: Node, wanted: Input, topic: str, kind: str) -> Problem:
    text = f"nobody publishes {topic}"
    there = _sources(node)
    same = [name for name, types in there.items() if kind in types and name != topic]
    if same:
        closest = max(same, key=lambda name: difflib.SequenceMatcher(None, name, topic).ratio())
        listed = ", ".join(sorted(same)[:6])
        return Problem(f"{text}; {kind} is published on {listed}", f"set parameter {wanted.topic_parameter}:={closest}")
    if wanted.message in (Image, CompressedImage):
        other = CompressedImage if wanted.message is Image else Image
        found = sorted(name for name, types in there.items() if type_name(other) in types)
        if found:
            compressed = str(other is CompressedImage).lower()
            settings = f"cameras.{wanted.camera}.compressed:={compressed} and {wanted.topic_parameter}:={found[0]}"
            return Problem(f"{text}; there is {type_name(other)} on {', '.join(found[:6])}", f"set parameters {settings}")
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    return Problem(
        f"{text}, and nobody publishes any {kind} in ROS_DOMAIN_ID {domain}",
        "start the driver or the player with the same ROS_DOMAIN_ID and RMW_IMPLEMENTATION; `ros2 topic list -t` shows what "
        "there is",
    )


def _other_type(wanted: Input, topic: str, kind: str, publisher: Any) -> Problem:
    text = f"{_full_name(publisher)} publishes {topic} as {publisher.topic_type}, we read it as {kind}"
    images = {type_name(Image): "false", type_name(CompressedImage): "true"}
    if kind in images and publisher.topic_type in images:
        return Problem(text, f"set parameter cameras.{wanted.camera}.compressed:={images[publisher.topic_type]}")
    return Problem(text, f"name another topic in parameter {wanted.topic_parameter}; `ros2 topic list -t` shows the types")


def _sources(node: Node) -> dict[str, list[str]]:
    """Topics that somebody publishes, with their types; without what occupancy nodes (this one or others) put out."""
    topics = dict(node.get_topic_names_and_types())
    found = {}
    for name, types in topics.items():
        senders = [_full_name(publisher) for publisher in node.get_publishers_info_by_topic(name)]
        if any(f"{sender}/voxels" not in topics for sender in senders):
            found[name] = types
    return found


def _full_name(publisher: Any) -> str:
    if publisher.node_name.startswith("_NODE_NAME_UNKNOWN"):  # for a moment after it was discovered
        return "a publisher"
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
