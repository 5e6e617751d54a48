# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""ROS parameters of the node: declaration, and the callback that accepts changes of live parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node

from occle_ros.config.flat_parameters import ParameterDeclaration, declared_parameters
from occle_ros.config.loading import config_from_parameters
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_files import is_builtin_parameter
from occle_ros.config.parameter_group import ConfigError

_READ_ONCE = "read once at startup: restart the node to change it"


class EmptyListParameters(Node):
    """Node mixin that accepts empty lists in a parameter file, as `ros2 param dump` writes them.

    rcl reads `[]` as a parameter without a type, and rclpy refuses to declare one.
    """

    def declare_parameters(self, namespace: str, parameters: Any, ignore_override: bool = False) -> list[Any]:
        """As Node's; a value of None stands for an empty list."""
        given = [(one[0], [], *one[2:]) if len(one) > 1 and one[1] is None else one for one in parameters]
        return super().declare_parameters(namespace, given, ignore_override)


def declare_config(node: Node) -> NodeConfig:
    """Declare every parameter with its description and range; returns the configuration.

    Args:
        node: made with `automatically_declare_parameters_from_overrides=True`, so that misspelt parameters are seen.

    Raises:
        ConfigError: an unknown or invalid parameter.
    """
    config = config_from_parameters(_given(node))
    for parameter in declared_parameters(config.camera_names, config):
        if node.has_parameter(parameter.name):
            node.undeclare_parameter(parameter.name)
        value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        node.declare_parameter(parameter.name, value, _descriptor(parameter), ignore_override=True)
    return config


def register_parameter_callback(node: Node, config: NodeConfig, accept: Callable[[NodeConfig], None]) -> None:
    """Register the callback that accepts changes of live parameters and rejects the others with a reason.

    Args:
        node: its parameters have been declared by `declare_config`.
        config: their present values.
        accept: called with the new configuration; it rejects the change by a ConfigError.
    """
    known = {parameter.name: parameter for parameter in declared_parameters(config.camera_names, config)}

    def check(changed: list[Any]) -> SetParametersResult:
        ours = {parameter.name: _plain(parameter.value) for parameter in changed if not is_builtin_parameter(parameter.name)}
        if not ours:
            return SetParametersResult(successful=True)
        fixed = [name for name in ours if name in known and not known[name].is_live]
        if fixed:
            names = ", ".join(fixed)
            return SetParametersResult(
                successful=False, reason=f"{names}: {_READ_ONCE} with -p {fixed[0]}:=VALUE or its params file"
            )
        try:
            accept(config_from_parameters({**_given(node), **ours}))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)


def _given(node: Node) -> dict[str, Any]:
    values = {name: _plain(parameter.value) for name, parameter in node.get_parameters_by_prefix("").items()}
    return {name: value for name, value in values.items() if not is_builtin_parameter(name)}


def _plain(value: Any) -> Any:
    """Plain Python value of a parameter; rclpy gives arrays as array.array, and an empty one as bytes."""
    return list(value) if not isinstance(value, (str, int, float, bool, type(None))) else value


def _descriptor(parameter: ParameterDeclaration) -> ParameterDescriptor:
    # Dynamic typing lets `2` stand for 2.0; the configuration's own types have checked the value. Not read_only: rclpy would
    # refuse a change without saying that a restart helps.
    constraints = "" if parameter.is_live else _READ_ONCE
    descriptor = ParameterDescriptor(description=parameter.description, additional_constraints=constraints, dynamic_typing=True)
    if parameter.lowest is not None and parameter.highest is not None:
        if parameter.is_integer:
            descriptor.integer_range = [IntegerRange(from_value=int(parameter.lowest), to_value=int(parameter.highest))]
        elif parameter.is_float:
            descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.lowest, to_value=parameter.highest)]
    return descriptor
