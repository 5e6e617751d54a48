# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parser of ROS parameter files by rcl's rules: sections by node name, namespace and wildcard, merged in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from occle_ros.config.parameter_group import ConfigError

NODE_NAME = "occupancy"
_VALUES = "ros__parameters"
_BUILTIN_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def read_parameters(path: Path, node: str = NODE_NAME) -> dict[str, Any]:
    """Parameters of a node in a file, by dotted name, without those of every ROS node (`use_sim_time`, ...).

    All matching sections are merged, a later one overrides an earlier one: /**, /*, /**/NODE, /NODE, NODE, and NODE in the one
    namespace of the file. Sections of other nodes are ignored.

    Args:
        path: of the file.
        node: name of the node.

    Raises:
        ConfigError: unreadable, not a parameter file, without a section for this node, or with sections for several of its name.
    """
    try:
        sections = _sections(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"parameter file {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not sections:
        raise ConfigError(f"{path} is not a ROS parameter file; it begins with `/**:` or `/{node}:`, then `  {_VALUES}:`")
    own = sorted({name for name, _ in sections if name.split("/")[-1] == node and "*" not in name})
    if len(own) > 1:
        raise ConfigError(f"{path} has sections for several nodes named {node}: {', '.join(own)}; keep one of them")
    full_name = own[0] if own else f"/{node}"
    matching = [values for name, values in sections if _matches(name, full_name)]
    if not matching:
        there = ", ".join(dict.fromkeys(name for name, _ in sections))
        raise ConfigError(f"{path} has no section for the node /{node}; its sections are {there}")
    merged = {name: value for values in matching for name, value in values.items()}
    return {name: value for name, value in merged.items() if not is_builtin_parameter(name)}


def is_builtin_parameter(name: str) -> bool:
    """True for parameters that every ROS node has."""
    return name.startswith(_BUILTIN_PARAMETERS)


def _sections(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(node name with a leading slash; dotted parameters) in file order; a name may occur with and without its slash.

    A repeated name extends its first section, as in rcl.
    """
    loader = yaml.SafeLoader(text)
    found: dict[str, dict[str, Any]] = {}
    while loader.check_node():
        document = loader.get_node()
        assert document is not None  # check_node said so
        for name, values in _walk_names(loader, document, ""):
            found.setdefault(name, {}).update(values)
    return [(re.sub("/+", "/", f"/{name}"), values) for name, values in found.items()]


def _walk_names(loader: yaml.SafeLoader, node: yaml.Node, name: str) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.value == _VALUES:
            if not isinstance(value, yaml.MappingNode):
                raise yaml.YAMLError(f"{_VALUES} of {name or 'no node'} holds no parameters{value.start_mark}")
            yield name, list(_leaves(loader, value, ""))
        else:
            yield from _walk_names(loader, value, f"{name}/{key.value}" if name else str(key.value))


def _leaves(loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode):
            yield from _leaves(loader, value, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", loader.construct_object(value, deep=True)


def _matches(name: str, full_name: str) -> bool:
    """True if a section applies to a node: ** stands for any number of names, * for one."""
    pattern = re.escape(name).replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"/\w+")
    return re.fullmatch(pattern, full_name) is not None
