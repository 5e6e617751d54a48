# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Flat list of the ROS parameters of a configuration: dotted names, defaults, descriptions, ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from occle_ros.config.node_config import NodeConfig


@dataclass(frozen=True)
class ParameterDeclaration:
    """Declaration of one ROS parameter."""

    name: str
    default: Any
    description: str
    is_float: bool = False
    is_integer: bool = False
    is_live: bool = False
    choices: tuple[str, ...] = ()
    lowest: float | None = None
    highest: float | None = None


def declared_parameters(camera_names: tuple[str, ...], defaults: NodeConfig | None = None) -> list[ParameterDeclaration]:
    """Declarations of all ROS parameters of a node with these cameras."""
    config = defaults or NodeConfig.model_validate({"camera_names": camera_names})
    return list(_walk(config, ""))


def _walk(group: BaseModel, prefix: str) -> Iterator[ParameterDeclaration]:
    for name, info in type(group).model_fields.items():
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for key, member in value.items():
                yield from _walk(member, f"{prefix}{name}.{key}.")
        else:
            yield _parameter(prefix + name, value, info)


def _parameter(name: str, value: Any, info: FieldInfo) -> ParameterDeclaration:
    low = next((float(str(m.ge)) for m in info.metadata if isinstance(m, annotated_types.Ge)), None)
    low = next((float(str(m.gt)) for m in info.metadata if isinstance(m, annotated_types.Gt)), low)
    high = next((float(str(m.le)) for m in info.metadata if isinstance(m, annotated_types.Le)), None)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    is_live = isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("live"))
    choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    return ParameterDeclaration(name=name, default=value, is_live=is_live, choices=choices,
                     description=info.description or "", lowest=low, highest=high,
                     is_float=isinstance(value, float), is_integer=is_integer)  # fmt: skip
