# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Class list of the published labels: vision_msgs/LabelInfo where it is installed, else a std_msgs/String of JSON."""

from __future__ import annotations

import json
from typing import Any

from std_msgs.msg import String

from occle_core.taxonomy import Taxonomy
from occle_ros.messages.common import header, message_class

LABEL_INFO, JSON_STRING = "vision_msgs/msg/LabelInfo", "std_msgs/msg/String"


def label_info_type() -> str:
    """Type name of the messages that `label_info` builds here."""
    return LABEL_INFO if message_class(LABEL_INFO) is not None else JSON_STRING


def label_info(taxonomy: Taxonomy, stamp: int, frame_id: str) -> Any:
    """Message with the names of the class ids.

    Args:
        taxonomy: class list of the network.
        stamp: nanoseconds.
        frame_id: frame of the voxels.
    """
    kind = message_class(LABEL_INFO)
    if kind is None:
        return String(data=json.dumps(class_table(taxonomy)))
    classes = [_vision_class(number, name) for number, name in enumerate(taxonomy.names)]
    return kind(header=header(stamp, frame_id), class_map=classes)


def class_table(taxonomy: Taxonomy) -> dict[str, Any]:
    """Class list as plain data: name, free and ignore ids, and id, name and RGB colour of every class."""
    return {
        "taxonomy": taxonomy.name,
        "free": taxonomy.free,
        "ignore": taxonomy.ignore,
        "classes": [
            {"id": number, "name": name, "rgb": [int(value) for value in taxonomy.colors[number]]}
            for number, name in enumerate(taxonomy.names)
        ],
    }


def _vision_class(number: int, name: str) -> Any:
    from vision_msgs.msg import VisionClass

    return VisionClass(class_id=number, class_name=name)
