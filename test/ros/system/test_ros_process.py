# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import threading

import pytest

from occle_ros.system import environment as environment
from occle_ros.system import ros_process as ros_process

VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def test_the_profile_is_set_unless_the_user_has_one(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # restores both afterwards
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    profile = ros_process.use_shared_memory_profile()
    assert profile is not None and "<segment_size>" in profile.read_text()
    assert os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] == str(profile) and not os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "")
    monkeypatch.setenv("ROS_DISTRO", "humble")
    ros_process.use_shared_memory_profile()
    assert os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(profile) and not os.environ["FASTDDS_DEFAULT_PROFILES_FILE"]
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "")
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert ros_process.use_shared_memory_profile() is None
    assert not os.environ["FASTDDS_DEFAULT_PROFILES_FILE"]


@pytest.mark.parametrize(
    ("rclpy", "name"), [("3.3.16", "FASTRTPS"), ("7.1.6", "FASTRTPS"), ("9.1.1", "FASTDDS"), ("10.0.3", "FASTDDS")]
)
def test_without_a_distribution_the_profile_has_the_name_that_rclpys_fast_dds_reads(monkeypatch, rclpy, name):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(environment, "version", {"rclpy": rclpy}.__getitem__)
    assert environment.profile_variable() == f"{name}_DEFAULT_PROFILES_FILE"


def test_signals_set_the_event_and_the_old_handlers_return():
    before = signal.getsignal(signal.SIGTERM)
    with ros_process.stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_get_an_event_without_handlers():
    seen = []

    def run() -> None:
        with ros_process.stop_signals() as stop:
            seen.append(stop.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
