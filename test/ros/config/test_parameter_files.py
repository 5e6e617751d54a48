# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parameter files mean the same to `occle run --config` as to the node, whose files rcl reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from node_rig import node_arguments, write_calibration
from rclpy.context import Context
from rclpy.node import Node

from occle_ros.config.loading import load_config
from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.parameter_files import read_parameters
from occle_ros.config.parameter_group import ConfigError
from occle_ros.node.node import OccupancyNode

pytestmark = [pytest.mark.ros, pytest.mark.timeout(90)]
NAMES = ["/**", "/*", "**", "*", "/**/occupancy", "/*/occupancy", "occupancy", "/occupancy", "driver", "/**/driver", "/robot/*"]


def by_rcl(path: Path, namespace: str = "") -> dict[str, Any]:
    """What a node of our name would be given."""
    context = Context()
    context.init(args=["x", "--ros-args", "--params-file", str(path)])
    try:
        node = Node("occupancy", namespace=namespace, context=context, start_parameter_services=False)
        found = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
        node.destroy_node()
    finally:
        context.try_shutdown()
    return found


def section(name: str, values: dict[str, int]) -> str:
    return f"{name!r}:\n  ros__parameters:\n" + "".join(f"    {key}: {value}\n" for key, value in values.items())


SECTIONS = st.tuples(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(["a", "b", "c.d"]), st.integers(0, 9), min_size=1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SECTIONS, min_size=1, max_size=5), st.sampled_from(["", "/robot"]))
@example([("/*", {"a": 0}), ("/**", {"a": 0}), ("/*", {"a": 1})], "")  # a name that comes again belongs to its first place,
@example([("*", {"a": 0}), ("/**", {"a": 0}), ("/*", {"a": 1})], "")  # if it is written alike
def test_sections_are_merged_as_rcl_does_it(tmp_path: Path, ros_domain: int, sections: Any, namespace: str) -> None:
    parts = [section(name, values) for name, values in sections]
    if namespace:  # names the namespace, without which no wildcard can be resolved offline
        parts.append("robot:\n" + "".join(f"  {line}\n" for line in section("occupancy", {"e": 1}).splitlines()))
        if any(name.strip("/") == "occupancy" for name, _ in sections):
            parts = parts[-1:]
    path = tmp_path / "x.yaml"
    path.write_text("".join(parts))
    expected = by_rcl(path, namespace)
    if expected:
        assert read_parameters(path) == expected
    else:
        with pytest.raises(ConfigError, match=r"has no section for the node /occupancy; its sections are /"):
            read_parameters(path)


def test_what_every_node_has_is_accepted_and_left_to_ros(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    start_type_description_service: false\n"
        "driver:\n  ros__parameters:\n    mode: 1\n"
        "occupancy:\n  ros__parameters:\n    threads: 2\n    diagnostics.latency_warn_ms: 100\n    lidar: {topic: /points}\n"
        "    qos_overrides: {/parameter_events: {publisher: {depth: 5}}}\n"
    )
    expected = NodeConfig.model_validate({"threads": 2, "diagnostics": {"latency_warn_ms": 100}, "lidar": {"topic": "/points"}})
    assert load_config(path) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/a/occupancy: {ros__parameters: {}}\n/b/occupancy: {ros__parameters: {}}", "several nodes .*: /a/occupancy, /b/"),
        ("driver: {ros__parameters: {a: 1}}", "no section for the node /occupancy; its sections are /driver"),
        ("/**: {ros__parameters: 3}", "holds no parameters"),
        ("a: {b: 1}", "not a ROS parameter file; it begins with"),
        ("/**: {ros__parameters: {lidar: {topik: /x}}}", r"x\.yaml: unknown parameter lidar.topik; did you mean lidar.topic"),
        ("/**: {ros__parameters: {threads: []}}", "threads: "),
    ],
)
def test_files_that_cannot_be_used_are_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def dump(node: Node) -> str:
    """What `ros2 param dump` writes of a node."""
    tree: dict[str, Any] = {}
    for name, parameter in sorted(node.get_parameters_by_prefix("").items()):
        *groups, leaf = name.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        value = parameter.value
        place[leaf] = value if isinstance(value, (str, int, float, bool)) else list(value)
    return yaml.dump({node.get_fully_qualified_name(): {"ros__parameters": tree}}, default_flow_style=False)


@pytest.mark.parametrize("namespace", ["", "/robot"])
def test_a_nodes_own_dump_is_taken_by_the_node_and_offline(tmp_path: Path, ros_domain: int, namespace: str) -> None:
    calibration = write_calibration(tmp_path / "calibration.yaml")
    arguments = node_arguments(tmp_path / "bundle", calibration, threads=3)[3:]

    def configured(arguments: list[str]) -> tuple[str, NodeConfig]:
        context = Context()
        context.init(args=arguments)
        try:
            node = OccupancyNode(context=context, namespace=namespace)
            found = dump(node), node.config
            node.destroy_node()
        finally:
            context.try_shutdown()
        return found

    text, config = configured(["x", *arguments])
    assert "T_grid_lidar: []" in text and "classes: []" in text and config.threads == 3
    path = tmp_path / "dumped.yaml"
    path.write_text(text)
    assert configured(["x", "--ros-args", "--params-file", str(path)]) == (text, config)
    assert resolve_topics(load_config(path), lambda topic: absolute_topic(topic, namespace)) == config


def test_an_unknown_empty_list_is_refused_by_the_node_too(tmp_path: Path, ros_domain: int) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("/**:\n  ros__parameters:\n    T_grid_lidr: []\n")
    context = Context()
    context.init(args=["x", "--ros-args", "--params-file", str(path)])
    try:
        with pytest.raises(ConfigError, match=r"unknown parameter T_grid_lidr; did you mean T_grid_lidar\?"):
            OccupancyNode(context=context)
    finally:
        context.try_shutdown()


def test_a_missing_file_is_said_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"parameter file .*gone\.yaml cannot be read: No such file or directory$"):
        read_parameters(tmp_path / "gone.yaml")
