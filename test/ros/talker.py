"""A publisher that counts, for the recorder's tests: `python talker.py TOPIC RELIABILITY DURABILITY HZ SECONDS [BYTES]`.

A transient_local topic keeps its last five messages for late subscribers.
"""

from __future__ import annotations

import sys
import time

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from occle_ros.transport import ros_node, stop_signals

topic, reliability, durability = sys.argv[1:4]
hz, seconds, size = float(sys.argv[4]), float(sys.argv[5]), int((sys.argv[6:] or ["10"])[0])
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()], durability=DurabilityPolicy[durability.upper()])
with stop_signals() as stop, ros_node("talker") as node:
    publisher = node.create_publisher(String, topic, qos)
    print("talking", flush=True)
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end and not stop.wait(1 / (hz or 10)):
        if hz:
            publisher.publish(String(data=f"{number:06d}" + "x" * (size - 6)))
        elif not number:
            publisher.publish(String(data="latched"))
        number += 1
