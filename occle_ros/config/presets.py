"""Presets: the shipped configurations, and the parameter files that are generated from them."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from occle_ros.config.flat_parameters import parameters
from occle_ros.config.groups import (
    ConfigError,
)
from occle_ros.config.node_config import NodeConfig

PRESETS = {
    "kitti": NodeConfig(),
    "nuscenes": NodeConfig.model_validate(
        {
            "bundle": "config/bundles/nuscenes",
            "camera_names": ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"],
            "cameras": {f"CAM_{side}": {"compressed": True} for side in
                        ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")},
            "sync": {"tolerance_ms": 60.0},
            "occupancy_grid": {"min_height": -0.6, "max_height": 2.2},
        }
    ),
}  # fmt: skip
"""The configurations that config/*.yaml are generated from: `python -m occle_ros.config.presets NAME > config/NAME.yaml`."""


def preset_for(camera_names: Sequence[str]) -> str:
    """The shipped configuration (and bundle) for a rig with these cameras: "kitti" or "nuscenes".

    Raises:
        ConfigError: nothing is shipped for them.
    """
    for name, preset in PRESETS.items():
        if camera_names and set(camera_names) <= set(preset.camera_names):
            return name
    known = "; ".join(f"{name}: {', '.join(preset.camera_names)}" for name, preset in PRESETS.items())
    given = ", ".join(camera_names) or "(none)"
    raise ConfigError(f"no bundle is shipped for the cameras {given}; give your own bundle and configuration. Shipped: {known}")


def to_yaml(config: NodeConfig, comment: str = "") -> str:
    """The configuration as a ROS parameter file, each value after its description; unset matrices are left out."""
    lines = [f"# {comment}"] if comment else []
    lines += ["/**:", "  ros__parameters:"]
    opened: list[str] = []
    for parameter in parameters(config.camera_names, config):
        if parameter.default == ():
            continue
        *groups, leaf = parameter.name.split(".")
        common = next((i for i, (a, b) in enumerate(zip(groups, opened)) if a != b), min(len(groups), len(opened)))
        lines += [f"{'  ' * (2 + level)}{groups[level]}:" for level in range(common, len(groups))]
        opened = groups
        indent = "  " * (2 + len(groups))
        value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        if isinstance(value, str):
            text = f'"{value}"'
        lines += [f"{indent}# {parameter.description}", f"{indent}{leaf}: {text}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    preset = sys.argv[1]
    comment = f"Parameters of the occupancy node; made by `python -m occle_ros.config.presets {preset}`."
    print(to_yaml(PRESETS[preset], comment), end="")
