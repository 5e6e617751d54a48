# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Publishers of the map: each topic is computed only for subscribers, at most at its maximum rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions

from occle_core.mapping import MapSnapshot
from occle_core.mapping.distance import distance_2d
from occle_core.mapping.layers import HeightBand, ground_elevation, project_bands
from occle_core.mapping.objects import find_objects
from occle_ros.config.classes import map_drivable, map_keepout, map_slow
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.clouds import distance_cloud
from occle_ros.messages.common import header, message_class
from occle_ros.messages.filter_masks import keepout_mask, speed_mask
from occle_ros.messages.map_messages import GridStream, VoxelStream, occupancy_of
from occle_ros.messages.markers import marker_array
from occle_ros.messages.objects import objects_message
from occle_ros.node.throttle import RateLimiter
from occle_ros.pipeline.statistics import Statistics
from occle_ros.topics import outputs
from occle_ros.topics.qos import qos_profile

_FROM_ABOVE = {outputs.MAP_GRID, outputs.MAP_GRID_UPDATES, outputs.MAP_DISTANCE}


class MapPublishers:
    """Publishers of `outputs.MAP_OUTPUTS`; those whose message package is not installed are left out.

    Args:
        node: owner of the publishers.
        config: rates; attribute `config` may be replaced.
        statistics: counts the published messages.
    """

    def __init__(self, node: Node, config: NodeConfig, statistics: Statistics) -> None:
        self.config = config
        self._node, self._statistics = node, statistics
        self._publishers: dict[outputs.Topic, Any] = {}
        for topic in outputs.MAP_OUTPUTS:
            kind = message_class(topic.kind)
            if kind is not None:
                wanted = config.output_qos
                qos = qos_profile(wanted.reliability, wanted.depth, wanted.durability)
                if topic.latched:
                    # nav2's static layer subscribes reliable and transient local.
                    qos = qos_profile("reliable", 1, "transient_local")
                overriding = QoSOverridingOptions.with_default_policies()
                self._publishers[topic] = node.create_publisher(kind, topic.name, qos, qos_overriding_options=overriding)
        self.restart()

    def subscriber_count(self) -> int:
        """Number of subscribers of all topics."""
        return sum(publisher.get_subscription_count() for publisher in self._publishers.values())

    def restart(self) -> None:
        """Let the next map be published whole at once: it has nothing to do with the one before."""
        self._limits = {topic: RateLimiter() for topic in self._publishers}
        self._voxels, self._grid = VoxelStream(), GridStream()

    def due(self) -> set[outputs.Topic]:
        """Topics with a subscriber whose rate allows a message now; what is due counts as published."""
        group = self.config.map
        rates = {
            outputs.MAP_VOXELS: group.voxels.max_rate_hz,
            outputs.MAP_VOXELS_UPDATES: group.voxels.updates_max_rate_hz,
            outputs.MAP_MARKERS: group.markers.max_rate_hz,
            outputs.MAP_GRID: group.occupancy_grid.max_rate_hz,
            outputs.MAP_GRID_UPDATES: group.occupancy_grid.updates_max_rate_hz,
            outputs.MAP_DISTANCE: group.distance.max_rate_hz,
            outputs.MAP_OBJECTS: group.objects.max_rate_hz,
            outputs.MAP_KEEPOUT: group.keepout_mask.max_rate_hz,
            outputs.MAP_SPEED: group.speed_mask.max_rate_hz,
        }
        listened = [topic for topic, publisher in self._publishers.items() if publisher.get_subscription_count()]
        return {topic for topic in listened if self._limits[topic].allows(rates[topic])}

    def publish(self, shot: MapSnapshot, due: set[outputs.Topic]) -> None:
        """Publish what is due of a map."""
        for topic, message in self._messages(shot, due).items():
            if message is not None:
                self._publishers[topic].publish(message)
                self._statistics.count("published", topic.name.removeprefix("~/"))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def _messages(self, shot: MapSnapshot, due: set[outputs.Topic]) -> dict[outputs.Topic, Any]:
        group = self.config.map
        made: dict[outputs.Topic, Any] = {}
        if outputs.MAP_VOXELS in due:
            made[outputs.MAP_VOXELS] = self._voxels.whole(shot)
        elif outputs.MAP_VOXELS_UPDATES in due:
            made[outputs.MAP_VOXELS_UPDATES] = self._voxels.update(shot)
        if outputs.MAP_MARKERS in due:
            made[outputs.MAP_MARKERS] = marker_array(occupancy_of(shot), group.markers.max_voxels, middle=shot.robot).data
        if due & _FROM_ABOVE:
            made |= self._from_above(shot, due)
        if outputs.MAP_OBJECTS in due:
            found = find_objects(shot, group.objects.min_cells)
            made[outputs.MAP_OBJECTS] = objects_message(found, shot.taxonomy, shot.stamp, shot.frame_id)
        if outputs.MAP_KEEPOUT in due:
            made[outputs.MAP_KEEPOUT] = keepout_mask(shot, map_keepout(group.keepout_mask.classes, shot.taxonomy))
        if outputs.MAP_SPEED in due:
            slow = group.speed_mask
            names = map_slow(slow.classes, shot.taxonomy)
            made[outputs.MAP_SPEED] = speed_mask(shot, names, slow.distance, slow.percent)
        return made

    def _from_above(self, shot: MapSnapshot, due: set[outputs.Topic]) -> dict[outputs.Topic, Any]:
        band = self.config.map.occupancy_grid
        heights = HeightBand(band.min_height, band.max_height, map_drivable(band.drivable, shot.taxonomy))
        (layer,) = project_bands(shot, [heights])
        made: dict[outputs.Topic, Any] = {}
        if outputs.MAP_GRID in due:
            made[outputs.MAP_GRID] = self._grid.whole(layer, shot)
        elif outputs.MAP_GRID_UPDATES in due:
            made[outputs.MAP_GRID_UPDATES] = self._grid.update(layer, shot)
        if outputs.MAP_DISTANCE in due:
            made[outputs.MAP_DISTANCE] = _distance(layer, shot)
        return made


def _distance(layer: NDArray[np.uint8], shot: MapSnapshot) -> Any:
    distance = distance_2d(layer, shot.grid.resolution)
    return distance_cloud(distance, ground_elevation(shot), shot.grid, header(shot.stamp, shot.frame_id))
