"""docs/reference/parameters.md and docs/reference/topics.md, made from the configuration model and the node's outputs.

`python -m occle_ros.tools.doc_pages docs/reference` writes them; a test fails when they are out of step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from occle_ros.config.flat_parameters import Parameter, parameters
from occle_ros.config.node_config import NodeConfig
from occle_ros.topics import outputs

CAMERA = "<camera>"
_MADE = "<!-- Made by `python -m occle_ros.tools.doc_pages docs/reference`; changes here are lost. -->\n"
_STAGES = ("receive", "wait", "convert", "prepare", "publish")


def parameters_page() -> str:
    """Every ROS parameter with its default, range and whether it may change while the node runs."""
    config = NodeConfig()
    (name,) = config.camera_names
    rows = []
    for parameter in parameters(config.camera_names, config):
        shown = parameter.name.replace(f"cameras.{name}.", f"cameras.{CAMERA}.")
        default = _default(parameter).replace(f"/{name}/", f"/{CAMERA}/") if shown != parameter.name else _default(parameter)
        live = "yes" if parameter.is_live else ""
        rows.append(f"| `{shown}` | {default} | {_range(parameter)} | {live} | {_cell(parameter.description)} |")
    return "\n".join(
        [
            _MADE,
            "# Parameters of the `occupancy` node\n",
            "Set them in a parameter file (`config/kitti.yaml` and `config/nuscenes.yaml` hold all of them with their",
            "descriptions), with `-p NAME:=VALUE`, or, those marked live, with `ros2 param set /occupancy NAME VALUE` while the",
            "node runs. The others are read once: the node refuses a change and says that it needs a restart. An unknown name is",
            f"refused at the start, with the closest known one. `{CAMERA}` stands for each name in `camera_names`.\n",
            "`occle run --config` and `occle doctor --config` read the same files by the same rules: sections for `/**`, `/*`,",
            "`occupancy` with or without a namespace, merged in their order; sections of other nodes and the parameters of every",
            "ROS node are ignored. An empty list is an empty list, so that what `ros2 param dump` writes can be given back.\n",
            "| parameter | default | allowed | live | |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "`use_sim_time` and the other parameters of every ROS 2 node work as usual.\n",
        ]
    )


def topics_page() -> str:
    """Every topic and service of the node."""
    config = NodeConfig()
    (name,) = config.camera_names
    received = [(topic.name, topic) for topic in outputs.subscribed(config)]
    sent = [(topic.name.replace(f"/{name}", f"/{CAMERA}"), topic) for topic in outputs.published(config, ())]
    return "\n".join(
        [
            _MADE,
            "# Topics and services of the `occupancy` node\n",
            "`~` is the node's name, `/occupancy` unless a namespace or another name is given. Stamps are the scan's, `frame_id`",
            "is the grid frame (overlays: the image's own frame).\n",
            "## Published\n",
            "Each is computed only while somebody subscribes, and no more often than its `max_rate_hz` says. They are reliable",
            "unless `output_qos.reliability` says otherwise; those marked latched keep their last message for later",
            "subscribers (transient_local).\n",
            "| topic | type | |",
            "|---|---|---|",
            *(
                f"| `{shown}` | `{topic.kind}` | {_cell(topic.meaning)}{' (latched)' if topic.latched else ''} |"
                for shown, topic in sent
            ),
            f"| `{outputs.stage('<stage>').name}` | `std_msgs/msg/Float64` | time of each stage: {', '.join(_STAGES[:3])}, the "
            f"network's own (`{_STAGES[3]}`, ...), {_STAGES[4]} |\n",
            "## Subscribed\n",
            "With the default configuration; the names and the QoS are parameters. With `qos.reliability: auto` each is reliable,",
            "and best effort where its publishers offer no more.\n",
            "| topic | type | |",
            "|---|---|---|",
            *(f"| `{shown}` | `{topic.kind}` | {_cell(topic.meaning)} |" for shown, topic in received),
            "| `/tf`, `/tf_static` | `tf2_msgs/msg/TFMessage` | where neither a calibration file nor parameters give the "
            "extrinsics, where the scans are in another frame than the calibration file's lidar_frame, and for networks that look "
            "at past frames, which need the scans' poses (frames.world) |\n",
            "## Services\n",
            "| service | type | |",
            "|---|---|---|",
            *(f"| `{service.name}` | `{service.kind}` | {_cell(service.meaning)} |" for service in outputs.SERVICES),
            "",
            "The node is a lifecycle node: `~/change_state`, `~/get_state` and the others of `lifecycle_msgs` work as usual.",
            "With `autostart` it configures and activates itself.\n",
        ]
    )


PAGES = {"parameters.md": parameters_page, "topics.md": topics_page}


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if value != "" else ""


def _range(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    if parameter.lowest is None or parameter.highest is None:
        return ""
    return f"{parameter.lowest:g} to {parameter.highest:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    """Write the pages into the folder that is named."""
    if len(arguments) != 1:
        print("usage: python -m occle_ros.tools.doc_pages FOLDER", file=sys.stderr)
        return 2
    for name, page in PAGES.items():
        (Path(arguments[0]) / name).write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
