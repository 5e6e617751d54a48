# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Objects of the map: vision_msgs/Detection3DArray where it is installed, else a MarkerArray of CUBEs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from occle_core.mapping.objects import MapObject
from occle_core.taxonomy import Taxonomy
from occle_ros.messages.common import header, message_class

DETECTIONS, MARKERS = "vision_msgs/msg/Detection3DArray", "visualization_msgs/msg/MarkerArray"


def objects_type() -> str:
    """Type name of the messages that `objects_message` builds here."""
    return DETECTIONS if message_class(DETECTIONS) is not None else MARKERS


def objects_message(objects: Sequence[MapObject], taxonomy: Taxonomy, stamp: int, frame_id: str) -> Any:
    """Message of the objects' boxes.

    A Detection3D's class_id is the class's name, its score the mean probability of occupancy; there are no ids, since objects are
    not tracked.

    Args:
        objects: as `find_objects` gives.
        taxonomy: gives names and colours.
        stamp: nanoseconds.
        frame_id: of the map.
    """
    kind = message_class(DETECTIONS)
    if kind is None:
        return _markers(objects, taxonomy, stamp, frame_id)
    head = header(stamp, frame_id)
    return kind(header=head, detections=[_detection(thing, taxonomy, head) for thing in objects])


def _detection(thing: MapObject, taxonomy: Taxonomy, head: Any) -> Any:
    from vision_msgs.msg import BoundingBox3D, Detection3D, ObjectHypothesis, ObjectHypothesisWithPose

    hypothesis = ObjectHypothesis(class_id=taxonomy.names[thing.label], score=thing.probability)
    result = ObjectHypothesisWithPose(hypothesis=hypothesis, pose=PoseWithCovariance(pose=_pose(thing)))
    return Detection3D(header=head, results=[result], bbox=BoundingBox3D(center=_pose(thing), size=_size(thing)))


def _markers(objects: Sequence[MapObject], taxonomy: Taxonomy, stamp: int, frame_id: str) -> MarkerArray:
    head = header(stamp, frame_id)
    markers = [Marker(header=head, action=Marker.DELETEALL)]
    for number, thing in enumerate(objects):
        red, green, blue = (float(value) / 255 for value in taxonomy.colors[thing.label])
        marker = Marker(header=head, ns=taxonomy.names[thing.label], id=number, type=Marker.CUBE, action=Marker.ADD)
        marker.pose, marker.scale, marker.color = _pose(thing), _size(thing), ColorRGBA(r=red, g=green, b=blue, a=0.5)
        markers.append(marker)
    return MarkerArray(markers=markers)


def _pose(thing: MapObject) -> Pose:
    x, y, z = thing.center
    turn = Quaternion(z=math.sin(thing.yaw / 2), w=math.cos(thing.yaw / 2))
    return Pose(position=Point(x=x, y=y, z=z), orientation=turn)


def _size(thing: MapObject) -> Vector3:
    x, y, z = thing.size
    return Vector3(x=x, y=y, z=z)
