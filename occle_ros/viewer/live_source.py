# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Live source of `occle view`: the node's voxels with the messages that they were made from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, read_spec
from occle_core.console import print_notice, print_notice_once
from occle_core.frame import Frame, FrameError
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.sensors.transforms import frame_name
from occle_core.taxonomy import Taxonomy
from occle_core.viewer.sources import ViewSource
from occle_core.viewer.view_frame import ViewFrame
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.calibration.tf_listener import listen_to_transforms
from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.parameter_files import NODE_NAME
from occle_ros.config.share_paths import resolve_bundle
from occle_ros.messages.clouds import occupancy_from_cloud
from occle_ros.node.subscriptions import ReceivedScan, Subscriptions, without_arrival
from occle_ros.pipeline.assemble import assemble
from occle_ros.pipeline.scans import lidar_frame
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.system.ros_process import ros_node
from occle_ros.topics.qos import publisher_qos, qos_profile

KEPT = 30
"""Synchronised inputs that wait for their voxels; about three seconds of them."""


def live_source(config: NodeConfig, bundle: Path | None, namespace: str, stop: threading.Event) -> ViewSource:
    """The frames of a running node, until `stop` is set.

    Args:
        config: the node's configuration: topics, calibration, bundle.
        bundle: the network that the node runs; None: the configuration's.
        namespace: of the node.
        stop: ends the frames.

    Raises:
        BundleError, ConfigError, CalibrationError: the configuration cannot be used.
    """
    spec = read_spec(resolve_bundle(str(bundle or config.bundle), "--bundle" if bundle else "parameter bundle"))
    classes = taxonomy.load(spec.taxonomy)
    config = resolve_topics(config, lambda topic: absolute_topic(topic, namespace))
    voxels = absolute_topic(f"{NODE_NAME}/voxels", namespace)

    def frames() -> Iterator[ViewFrame]:
        with ros_node("occle_view") as node:
            executor = SingleThreadedExecutor(context=node.context)
            executor.add_node(node)
            listener = _LiveListener(node, config, spec, classes, voxels)
            print_notice(f"waiting for {voxels}")
            while not stop.is_set():
                executor.spin_once(timeout_sec=0.1)
                yield from listener.take()
            executor.shutdown()

    return ViewSource(f"live {voxels}", spec.name, classes, tuple(config.camera_names), None, None, frames())


class _LiveListener:
    """Subscriptions of inputs, voxels and timings; voxels meet the inputs of the same stamp."""

    def __init__(self, node: Node, config: NodeConfig, spec: BundleSpec, classes: Taxonomy, voxels: str) -> None:
        self._node, self._config, self._spec, self._classes = node, config, spec, classes
        self._prefix = voxels.removesuffix("voxels")
        self._calibration = Calibration(config)
        try:
            self._calibration.use_transforms(listen_to_transforms(node))
        except ImportError:  # without TF there are no poses, and the extrinsics are given or the scan is not shown
            print_notice("tf2_msgs is not installed: no poses, so no map")
        self._inputs: OrderedDict[int, SyncedMessages[ReceivedScan, Any]] = OrderedDict()
        self._ready: list[ViewFrame] = []
        self._timings: dict[str, float] = {}
        self._timed: set[str] = set()
        self._count = 0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._poses = LidarPoses(config, self._calibration)
        Subscriptions(node, config, self._calibration, self._poses, Statistics(), steady, self._on_inputs)
        is_lossy = any(offer.reliability.name == "BEST_EFFORT" for offer in publisher_qos(node, voxels))
        node.create_subscription(PointCloud2, voxels, self._on_voxels, qos_profile("best_effort" if is_lossy else "reliable", 5))
        node.create_timer(1.0, self._find_timings, clock=steady)

    def take(self) -> list[ViewFrame]:
        """The frames that have come since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def _on_inputs(self, synced: SyncedMessages[ReceivedScan, Any]) -> None:
        self._inputs[synced.stamp] = synced
        while len(self._inputs) > KEPT:
            self._inputs.popitem(last=False)

    def _on_voxels(self, message: PointCloud2) -> None:
        try:
            occupancy = occupancy_from_cloud(message, self._spec.voxel_grid, self._classes)
        except ConversionError as error:
            print_notice_once(f"voxels that are not those of bundle {self._spec.name} are left out: {error}")
            return
        stamp = stamp_of(message)
        occupancy = replace(occupancy, timings=dict(self._timings))
        frame = self._frame(stamp) or Frame(stamp, np.zeros((0, 4), np.float32))
        names = self._config.camera_names if frame.images else ()
        self._ready.append(ViewFrame.of(self._count, frame, names, occupancy))
        self._count += 1

    def _frame(self, stamp: int) -> Frame | None:
        """Scan, images and pose of a stamp; None where the inputs have not come or cannot be used."""
        synced = self._inputs.pop(stamp, None)
        if synced is None:
            print_notice_once("voxels without their scan are shown alone: check the topics of --config, or run beside the node")
            return None
        try:
            messages, file = without_arrival(synced), self._calibration.file
            frame = lidar_frame(messages, self._config, "", file.lidar_frame if file else "")
            rig = self._calibration.rig(frame, stamp, pose=True)
            return assemble(messages, rig, self._config, self._poses, frame_name(self._config.tf.lidar_frame or frame)).frame
        except (FrameError, ConversionError, CalibrationError) as error:
            print_notice_once(f"voxels are shown without scan and images: {error}")
            return None

    def _find_timings(self) -> None:
        """Subscribe to the node's timing topics as they appear."""
        prefix = f"{self._prefix}debug/processing_time/"
        for topic, _ in self._node.get_topic_names_and_types():
            if topic.startswith(prefix) and topic not in self._timed:
                self._timed.add(topic)
                name = topic.removeprefix(prefix).removesuffix("_ms")
                self._node.create_subscription(Float64, topic, partial(self._on_timing, name), 10)

    def _on_timing(self, name: str, message: Float64) -> None:
        self._timings[name] = message.data
