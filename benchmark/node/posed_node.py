# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The node with poses on topic /poses, for machines without tf2_msgs: `python -m benchmark.node.posed_node --ros-args ...`.

There is no PyPI wheel of tf2_msgs, so that /tf cannot be received there. Here TF's place is taken by geometry_msgs/TransformStamped
messages, which go into the same buffer as those of /tf; all the rest is the node.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node

import occle_ros.node.node
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.node.process import main

TOPIC = "/poses"


def listen(node: Node) -> TransformBuffer:
    """Buffer of the transforms on `TOPIC`, as `occle_ros.calibration.tf_listener` makes one of those on /tf."""
    transforms = TransformBuffer()

    def take(message: TransformStamped) -> None:
        try:
            transforms.add(SimpleNamespace(transforms=[message]))
        except ConversionError as error:
            node.get_logger().warning(f"transform ignored: {error}")

    node.create_subscription(TransformStamped, TOPIC, take, 100)
    return transforms


if __name__ == "__main__":
    occle_ros.node.node._transforms = listen
    sys.exit(main(["occle", *sys.argv[1:]]))
