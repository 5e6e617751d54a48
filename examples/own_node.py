# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A ROS 2 node of your own on top of `Predictor`: points in, the number of voxels of each class out.

    python examples/own_node.py --ros-args -p bundle:=config/bundles/kitti -p points:=/velodyne_points
    ros2 topic echo /own_node/classes

It takes the LiDAR alone and predicts in the callback: the shortest way from a message to labels. The node of this package
(`ros2 run occle_ros occle node`) adds what a robot needs: cameras, synchronisation, calibration, TF, a worker thread,
diagnostics. docs/architecture.md walks through it.
"""

from __future__ import annotations

import sys

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from occle_core.frame import Frame, FrameError
from occle_core.predictor import Predictor
from occle_core.sensors.clouds import points_from_cloud
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_ros.messages.clouds import cloud_from_occupancy


class OwnNode(Node):
    """Subscribes to a PointCloud2, publishes its voxels and a line of text."""

    def __init__(self) -> None:
        super().__init__("own_node")
        bundle: str = self.declare_parameter("bundle", "config/bundles/kitti").value
        topic: str = self.declare_parameter("points", "/lidar/points").value
        self.predictor = Predictor.load(bundle, engine="torch")
        self.voxels = self.create_publisher(PointCloud2, "~/voxels", 1)
        self.classes = self.create_publisher(String, "~/classes", 1)
        # Best effort, as LiDAR drivers publish. Depth 1: while a frame is predicted, only the newest scan waits.
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(PointCloud2, topic, self.on_scan, qos)
        self.get_logger().info(f"ready: {self.predictor.bundle_id}, waiting for {topic}")

    def on_scan(self, message: PointCloud2) -> None:
        """Message -> points -> frame -> labels -> message."""
        try:
            # (N, 4): x, y, z in metres and intensity in 0..1; points that are not finite are left out and counted.
            points, _left_out = points_from_cloud(message)
            # The grid of this example is at the LiDAR. Give T_grid_lidar where yours is elsewhere.
            frame = Frame(stamp_of(message), points, T_grid_lidar=np.eye(4))
            occupancy = self.predictor.predict(frame, frame_id=message.header.frame_id)
        except (ConversionError, FrameError) as error:
            self.get_logger().warning(f"a scan is skipped: {error}", throttle_duration_sec=5.0)
            return
        _, ids, _ = occupancy.voxels()
        counts = np.bincount(ids, minlength=occupancy.taxonomy.num_classes)
        text = ", ".join(f"{name} {count}" for name, count in zip(occupancy.taxonomy.names, counts) if count)
        self.classes.publish(String(data=text or "nothing is occupied"))
        self.voxels.publish(cloud_from_occupancy(occupancy))


def main() -> None:
    """Spin until Ctrl-C."""
    rclpy.init(args=sys.argv)
    node = OwnNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
