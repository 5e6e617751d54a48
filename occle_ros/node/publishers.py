# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Publishers of the node: each output is computed only for subscribers, at most at its maximum rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Float64

from occle_core.occupancy import Occupancy
from occle_core.visibility import VisibilityCaster, mark_unseen
from occle_ros.config.classes import class_ids, drivable_ids, ground_ids
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.clouds import cloud_from_occupancy, obstacles_from_occupancy
from occle_ros.messages.common import message_class
from occle_ros.messages.label_info import label_info
from occle_ros.messages.markers import delete_all, marker_array
from occle_ros.messages.occupancy_grid import occupancy_grid
from occle_ros.node.overlay_publisher import OverlayPublisher
from occle_ros.node.throttle import LogThrottle, RateLimiter
from occle_ros.pipeline.pipeline import ProcessedFrame
from occle_ros.pipeline.statistics import Statistics
from occle_ros.topics import outputs
from occle_ros.topics.qos import qos_profile


class Publishers:
    """Publishers of one activation; `close` destroys them.

    Args:
        node: owner of the publishers.
        config: rates and filters; attribute `config` may be replaced while frames are published.
        statistics: counts the published messages.
        stages: names of the stages in the frames' timings.
    """

    def __init__(self, node: Node, config: NodeConfig, statistics: Statistics, stages: Sequence[str]) -> None:
        self.config = config
        self._node, self._statistics = node, statistics
        self._limits: dict[str, RateLimiter] = {}
        self._log_throttle = LogThrottle()
        self._visibility: VisibilityCaster | None = None
        self._described = False  # the class list has been published
        self._shown: tuple[int, str] | None = None  # stamp and frame of the markers that viewers show
        self._publishers = {topic.name: self._publisher(topic) for topic in (*outputs.OUTPUTS, outputs.LATENCY)}
        for stage in stages:
            self._stage(stage)
        pictures = {name: self._publisher(outputs.overlay(name)) for name in config.camera_names}
        self._overlays = OverlayPublisher(pictures, statistics, self._log_error)

    def subscriber_count(self, topic: outputs.Topic) -> int:
        """Number of subscribers of a topic."""
        return int(self._publishers[topic.name].get_subscription_count())

    def publish(self, processed: ProcessedFrame) -> None:
        """Publish the outputs that are due."""
        config, occupancy = self.config, processed.occupancy
        shown = shown_voxels(occupancy, config)
        whole: Occupancy | None = None
        if self._is_due(outputs.VOXELS, config.voxels.max_rate_hz):
            voxels = shown
            if config.voxels.include_unknown:
                whole = self._with_unknown(processed)
                voxels = replace(shown, unseen=whole.unseen)
            self._publishers[outputs.VOXELS.name].publish(cloud_from_occupancy(voxels, config.voxels.include_unknown))
        if self._is_due(outputs.MARKERS, config.markers.max_rate_hz):
            self._publish_markers(shown)
        if self._is_due(outputs.OCCUPANCY_GRID, config.occupancy_grid.max_rate_hz):
            if config.mark_unknown:
                whole = whole or self._with_unknown(processed)
            self._publishers[outputs.OCCUPANCY_GRID.name].publish(self._grid(whole or occupancy))
        if self._is_due(outputs.OBSTACLES, config.obstacles.max_rate_hz):
            band = config.obstacles
            ground = ground_ids(band.ground, occupancy.taxonomy)
            cloud = obstacles_from_occupancy(occupancy, band.min_height, band.max_height, ground)
            self._publishers[outputs.OBSTACLES.name].publish(cloud)
        if not self._described:
            self._described = True
            info = label_info(occupancy.taxonomy, occupancy.stamp, occupancy.frame_id)
            self._publishers[outputs.LABEL_INFO.name].publish(info)
        self._overlays.offer(replace(processed, occupancy=shown), config.overlay)

    def publish_timings(self, latency_ms: float, stages: Mapping[str, float]) -> None:
        """Publish the latency (NaN: not known) and the timings of the stages, milliseconds."""
        wanted = {self._publishers[outputs.LATENCY.name]: latency_ms}
        wanted |= {self._stage(stage): milliseconds for stage, milliseconds in stages.items()}
        wanted = {p: ms for p, ms in wanted.items() if not math.isnan(ms) and p.get_subscription_count()}
        if wanted and self._limit("debug").allows(self.config.debug.max_rate_hz):
            for publisher, milliseconds in wanted.items():
                publisher.publish(Float64(data=milliseconds))

    def clear_markers(self) -> None:
        """Remove the markers from the viewers, if they show any."""
        if self._shown:
            self._publishers[outputs.MARKERS.name].publish(delete_all(*self._shown))
            self._shown = None

    def close(self, timeout: float) -> None:
        """Clear the markers and destroy the publishers; waits `timeout` seconds for an overlay in progress."""
        self.clear_markers()
        self._overlays.close(timeout)
        for publisher in [*self._publishers.values(), *self._overlays.publishers.values()]:
            self._node.destroy_publisher(publisher)

    def _publish_markers(self, shown: Occupancy) -> None:
        config = self.config.markers
        markers = marker_array(shown, config.max_voxels, config.surface_only)
        self._publishers[outputs.MARKERS.name].publish(markers.data)
        self._shown = (shown.stamp, shown.frame_id)
        self._statistics.count("markers", "left_out_voxels", markers.left_out)
        text = f"~/markers is limited to the nearest {config.max_voxels} voxels; raise parameter markers.max_voxels"
        if markers.left_out and self._log_throttle.should_log(text):
            self._node.get_logger().warning(text)

    def _with_unknown(self, processed: ProcessedFrame) -> Occupancy:
        occupancy = processed.occupancy
        if self._visibility is None or self._visibility.grid != occupancy.grid:
            self._visibility = VisibilityCaster(occupancy.grid)
        return mark_unseen(occupancy, self._visibility.seen(processed.assembled.frame, occupancy.occupied))

    def _grid(self, occupancy: Occupancy) -> OccupancyGrid:
        band = self.config.occupancy_grid
        return occupancy_grid(occupancy, band.min_height, band.max_height, drivable_ids(band.drivable, occupancy.taxonomy))

    def _is_due(self, topic: outputs.Topic, max_rate_hz: float) -> bool:
        if not self.subscriber_count(topic) or not self._limit(topic.name).allows(max_rate_hz):
            return False
        self._statistics.count("published", topic.name.removeprefix("~/"))
        return True

    def _limit(self, name: str) -> RateLimiter:
        return self._limits.setdefault(name, RateLimiter())

    def _stage(self, stage: str) -> Any:
        topic = outputs.stage(stage)
        if topic.name not in self._publishers:
            self._publishers[topic.name] = self._publisher(topic)
        return self._publishers[topic.name]

    def _publisher(self, topic: outputs.Topic) -> Any:
        wanted = self.config.output_qos
        qos = qos_profile(wanted.reliability, wanted.depth, wanted.durability)
        if topic.latched:
            qos = qos_profile(wanted.reliability, 1, "transient_local")
        kind = message_class(topic.kind)
        assert kind is not None, topic.kind
        overriding = QoSOverridingOptions.with_default_policies()
        return self._node.create_publisher(kind, topic.name, qos, qos_overriding_options=overriding)

    def _log_error(self, text: str) -> None:
        if self._log_throttle.should_log(text):
            self._node.get_logger().error(text)


def shown_voxels(occupancy: Occupancy, config: NodeConfig) -> Occupancy:
    """Occupancy filtered by parameters show.classes and show.min_confidence; the other voxels become free.

    Raises:
        ConfigError: the network does not have one of the classes.
    """
    show, taxonomy = config.show, occupancy.taxonomy
    if not show.classes and not show.min_confidence:
        return occupancy
    kept = np.ones(256, np.bool_)
    if show.classes:
        kept[:] = False
        kept[class_ids(show.classes, taxonomy, "show.classes")] = True
    sparse, occupied = occupancy.sparse, occupancy.occupied_scores
    keep = kept[sparse.classes] & (sparse.scores >= show.min_confidence)
    return replace(occupancy, sparse=sparse[keep], occupied_scores=None if occupied is None else occupied[keep])
