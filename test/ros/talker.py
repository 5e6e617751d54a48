# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A publisher that counts, for the recorder's tests: `python talker.py TOPIC RELIABILITY DURABILITY HZ SECONDS [BYTES]`.

A transient_local topic keeps its last five messages for late subscribers.
"""

from __future__ import annotations

import sys
import time

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from occle_ros.system.ros_process import ros_node, stop_signals

topic, reliability, durability = sys.argv[1:4]
hz, seconds, size = float(sys.argv[4]), float(sys.argv[5]), int((sys.argv[6:] or ["10"])[0])
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()], durability=DurabilityPolicy[durability.upper()])
with stop_signals() as stop, ros_node("talker") as node:
    publisher = node.create_publisher(String, topic, qos)
    print("talking", flush=True)
    began, number = time.monotonic(), 0
    if not hz:
        publisher.publish(String(data="latched"))
    while time.monotonic() < began + seconds and not stop.wait(1 / (hz or 10)):
        # On a busy machine several at once, though no more than the publisher keeps.
        for _ in range(min(5, int((time.monotonic() - began) * hz) - number)):
            publisher.publish(String(data=f"{number:06d}" + "x" * (size - 6)))
            number += 1
