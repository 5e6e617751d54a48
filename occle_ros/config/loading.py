# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Loading of a configuration from a parameter file or from ROS parameters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from occle_ros.config.flat_parameters import declared_parameters
from occle_ros.config.lidars import FurtherLidarConfig
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_files import read_parameters
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.rig_parameters import with_rig


def load_config(path: Path | None, rig: Path | None = None) -> NodeConfig:
    """Read a ROS parameter file by the rules of the node.

    Args:
        path: of the file; None: the defaults.
        rig: rig file, in place of parameter rig.

    Raises:
        ConfigError: the file is unreadable, not a parameter file, or has unknown or invalid parameters.
    """
    parameters = read_parameters(path) if path else {}
    source = str(path) if path else "the node's parameters"
    return config_from_parameters(parameters | {"rig": str(rig)} if rig else parameters, source)


def config_from_parameters(flat: Mapping[str, Any], source: str = "the node's parameters") -> NodeConfig:
    """Configuration from dotted parameter names and their values.

    Raises:
        ConfigError: unknown name (the closest known one is suggested) or invalid value.
    """
    nested: dict[str, Any] = {}
    for name, value in with_rig(flat).items():
        *groups, leaf = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{source}: {name!r} is below a parameter that has a value")
        place[leaf] = value
    try:
        return NodeConfig.model_validate(nested)
    except ValidationError as error:
        names = nested.get("camera_names")
        names = names if isinstance(names, (list, tuple)) else ["cam2"]
        usable = dict.fromkeys(str(name) for name in names if str(name).isidentifier())
        known = [parameter.name for parameter in declared_parameters(tuple(usable))]
        known += [f"lidars.{name}.{leaf}" for name in nested.get("lidars") or () for leaf in FurtherLidarConfig.model_fields]
        raise ConfigError(f"{source}: " + "; ".join(_explain(problem, known) for problem in error.errors())) from error


def _explain(problem: Any, known: list[str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, known, n=1)
        return f"unknown parameter {name}" + (f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}")
    return f"{name}: {problem['msg']} (got {problem['input']!r})" if name else str(problem["msg"]).removeprefix("Value error, ")
