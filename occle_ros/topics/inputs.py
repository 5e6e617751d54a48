# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Input topics of a configuration, and the diagnosis of a silent one."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_ros.config.node_config import NodeConfig
from occle_ros.system.environment import profile_variable
from occle_ros.topics.qos import format_qos, qos_mismatch


@dataclass(frozen=True)
class InputTopic:
    """One input topic of the node.

    Args:
        name: for messages: "scan", "image of cam2", "CameraInfo of cam2".
        topic: as configured.
        message: class of the messages.
        topic_parameter: name of the parameter that sets the topic.
        camera: name of the camera; empty for others.
        lidar: name of the further LiDAR; empty for others.
        once: one message is sufficient (calibration).
    """

    name: str
    topic: str
    message: type[Any]
    topic_parameter: str
    camera: str = ""
    lidar: str = ""
    once: bool = False


@dataclass(frozen=True)
class Problem:
    """A problem and its remedy, a setting or a command; an empty remedy is part of the text."""

    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def input_topics(config: NodeConfig) -> list[InputTopic]:
    """Input topics of a configuration, LiDARs first."""
    inputs = [InputTopic("scan", config.lidar.topic, PointCloud2, "lidar.topic")]
    for name in config.lidar_names:
        inputs.append(InputTopic(f"scan of {name}", config.lidars[name].topic, PointCloud2, f"lidars.{name}.topic", lidar=name))
    if config.lidar.odometry_topic and config.lidar.deskew in ("auto", "odometry"):
        inputs.append(InputTopic("odometry", config.lidar.odometry_topic, Odometry, "lidar.odometry_topic"))
    for name in config.camera_names:
        camera, prefix = config.cameras[name], f"cameras.{name}"
        kind = CompressedImage if camera.compressed else Image
        inputs.append(InputTopic(f"image of {name}", camera.topic, kind, f"{prefix}.topic", name))
        if camera.info_topic:
            inputs.append(
                InputTopic(f"CameraInfo of {name}", camera.info_topic, CameraInfo, f"{prefix}.info_topic", name, once=True)
            )
    return inputs


def type_name(message: type[Any]) -> str:
    """Type name of a message class in the graph, such as sensor_msgs/msg/Image."""
    return f"{message.__module__.split('.')[0]}/msg/{message.__name__}"


def diagnose_silence(node: Node, wanted: InputTopic, qos: QoSProfile) -> Problem:
    """Diagnose a topic without messages from the ROS graph.

    Args:
        node: gives access to the graph.
        wanted: the silent input.
        qos: requested by our subscription.
    """
    topic, kind = node.resolve_topic_name(wanted.topic), type_name(wanted.message)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return _no_publisher(node, wanted, topic, kind)
    right = [publisher for publisher in publishers if publisher.topic_type == kind]
    if not right:
        return _other_type(wanted, topic, kind, publishers[0])
    for publisher in right:
        if why := qos_mismatch(publisher.qos_profile, qos):
            return Problem(f"{_full_name(publisher)} {why[0]} on {topic}", why[1])
    names = ", ".join(_full_name(publisher) for publisher in right[:3])
    text = f"{names} publishes {topic} ({format_qos(right[0].qos_profile)}), compatible with our request, but no message arrives"
    if qos.reliability == ReliabilityPolicy.BEST_EFFORT and wanted.message in (Image, PointCloud2):
        return Problem(
            text,
            f"large best-effort messages are lost without shared memory: start the publisher with {profile_variable()}="
            "<share/occle_ros>/config/fastdds_shm.xml, or set parameter qos.reliability:=reliable if it offers that",
        )
    return Problem(text, f"check that it sends: `ros2 topic hz {topic}` (a paused bag or a sensor that is off does not)")


def _no_publisher(node: Node, wanted: InputTopic, topic: str, kind: str) -> Problem:
    text = f"no publisher of {topic}"
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
            return Problem(f"{text}; {type_name(other)} is published on {', '.join(found[:6])}", f"set parameters {settings}")
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    return Problem(
        f"{text}, and no publisher of any {kind} in ROS_DOMAIN_ID {domain}",
        "start the driver or the player with the same ROS_DOMAIN_ID and RMW_IMPLEMENTATION; `ros2 topic list -t` lists the topics",
    )


def _other_type(wanted: InputTopic, topic: str, kind: str, publisher: Any) -> Problem:
    text = f"{_full_name(publisher)} publishes {topic} as {publisher.topic_type}, expected {kind}"
    images = {type_name(Image): "false", type_name(CompressedImage): "true"}
    if kind in images and publisher.topic_type in images:
        return Problem(text, f"set parameter cameras.{wanted.camera}.compressed:={images[publisher.topic_type]}")
    return Problem(text, f"set parameter {wanted.topic_parameter} to another topic; `ros2 topic list -t` shows the types")


def _sources(node: Node) -> dict[str, list[str]]:
    """Published topics with their types, without the outputs of occupancy nodes (this one or others)."""
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
