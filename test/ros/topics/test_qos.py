# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_profile_sensor_data,
)

from occle_ros.config.node_config import NodeConfig
from occle_ros.topics.qos import format_qos, input_qos, qos_mismatch, qos_profile


def test_settings_become_a_profile():
    profile = qos_profile("best_effort", 7, "transient_local")
    assert (profile.reliability, profile.depth, profile.durability, profile.history) == (
        ReliabilityPolicy.BEST_EFFORT, 7, DurabilityPolicy.TRANSIENT_LOCAL, HistoryPolicy.KEEP_LAST
    )  # fmt: skip
    asked = input_qos(NodeConfig.model_validate({"qos": {"reliability": "best_effort", "depth": 3}}))
    assert (asked.reliability, asked.depth) == (ReliabilityPolicy.BEST_EFFORT, 3)
    assert format_qos(asked) == "best_effort, volatile"


def test_auto_asks_for_what_every_publisher_can_give():
    """So that drivers with the sensor data profile are heard without any setting, and nothing is lost of the others."""
    auto, reliable, best_effort = NodeConfig(), qos_profile("reliable", 5), qos_profile("best_effort", 5)
    assert auto.qos.reliability == "auto"
    for offers, expected in (((), reliable), ((reliable,), reliable), ((best_effort,), best_effort)):
        assert input_qos(auto, offers).reliability == expected.reliability
    assert input_qos(auto, (reliable, best_effort)).reliability == ReliabilityPolicy.BEST_EFFORT
    for offers in ((reliable,), (best_effort,), (qos_profile_sensor_data,)):
        assert all(qos_mismatch(offer, input_qos(auto, offers)) is None for offer in offers)
    insisting = NodeConfig.model_validate({"qos": {"reliability": "reliable"}})
    assert input_qos(insisting, (best_effort,)).reliability == ReliabilityPolicy.RELIABLE


SETTINGS = list(itertools.product(("reliable", "best_effort"), ("volatile", "transient_local")))


@pytest.mark.parametrize("offered", SETTINGS)
@pytest.mark.parametrize("asked", SETTINGS)
def test_a_mismatch_is_what_rmw_calls_one_and_its_setting_mends_it(offered, asked):
    """The verdict of rmw itself is the reference; doing what is said, as often as it is said, ends in a match."""
    publisher = qos_profile(offered[0], 5, offered[1])
    reliability, durability = asked
    for _ in range(3):
        subscription = qos_profile(reliability, 5, durability)
        # Left at the system's default, liveliness is a warning.
        fits = qos_check_compatible(publisher, subscription)[0] != QoSCompatibility.ERROR
        why = qos_mismatch(publisher, subscription)
        assert (why is None) == fits
        if why is None:
            break
        setting = why[1].removeprefix("set parameter qos.")
        reliability = setting.partition(":=")[2] if setting.startswith("reliability") else reliability
        durability = setting.partition(":=")[2] if setting.startswith("durability") else durability
    else:
        pytest.fail("the settings do not make them compatible")


def test_other_policies_are_reported_with_rmws_reason():
    from rclpy.duration import Duration

    asked = QoSProfile(depth=5, deadline=Duration(seconds=1))
    why = qos_mismatch(QoSProfile(depth=5, deadline=Duration(seconds=3)), asked)
    assert why is not None and "deadline" in why[0].lower() and "ros2 topic info -v" in why[1]


def test_what_the_graph_does_not_know_is_no_mismatch():
    unknown = QoSProfile(depth=5, reliability=ReliabilityPolicy.UNKNOWN, durability=DurabilityPolicy.UNKNOWN)
    assert qos_mismatch(unknown, qos_profile("reliable", 5)) is None
