"""The configuration as parameters of a rclpy node."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from occle_ros.config import NodeConfig, Parameter, config_from_parameters, parameters

_OWN_TO_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def declare_config(node: Node) -> NodeConfig:
    """Declare every parameter with its description and range, and read the configuration.

    The parameters are read once: they are read-only afterwards.

    Args:
        node: made with `automatically_declare_parameters_from_overrides=True`, so that misspelt parameters are seen.

    Raises:
        ConfigError: an unknown or impossible parameter.
    """
    given = {name: _plain(parameter.value) for name, parameter in node.get_parameters_by_prefix("").items()}
    given = {name: value for name, value in given.items() if not name.startswith(_OWN_TO_RCLPY)}
    config = config_from_parameters(given)
    for parameter in parameters(config.camera_names, config):
        if node.has_parameter(parameter.name):
            node.undeclare_parameter(parameter.name)
        value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        node.declare_parameter(parameter.name, value, _descriptor(parameter))
    return config


def _plain(value: Any) -> Any:
    """rclpy gives arrays as array.array, and an empty one as bytes."""
    return list(value) if not isinstance(value, (str, int, float, bool, type(None))) else value


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    # Dynamic typing lets `2` stand for 2.0; the configuration's own types have checked the value.
    descriptor = ParameterDescriptor(description=parameter.description, read_only=True, dynamic_typing=True)
    if parameter.lowest is not None and parameter.highest is not None:
        if parameter.is_integer:
            descriptor.integer_range = [IntegerRange(from_value=int(parameter.lowest), to_value=int(parameter.highest))]
        elif parameter.is_float:
            descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.lowest, to_value=parameter.highest)]
    return descriptor
