# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Process of the node: startup, spinning, and exit within two seconds of SIGINT or SIGTERM."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import NoReturn

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from occle_ros.config.parameter_group import ConfigError
from occle_ros.node.inference import STARTUP_ERRORS
from occle_ros.node.node import OccupancyNode
from occle_ros.system.environment import TransportError
from occle_ros.system.ros_process import prepare_ros, stop_signals

_EXPECTED_ERRORS = (*STARTUP_ERRORS, ParameterException)
LOADING_SECONDS = 0.8


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        args: with --ros-args, as from the command line.

    Returns:
        1 after an error. After a normal run the process exits here, with exit code 0.
    """
    try:
        prepare_ros()
    except TransportError as error:
        return _fail(error)
    with stop_signals() as stop:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except Exception as error:  # rclpy's own errors have no common base; all of them mean unusable --ros-args
            return _fail(error)
        try:
            node = OccupancyNode()
        except _EXPECTED_ERRORS as error:
            rclpy.shutdown()
            return _fail(error)
        return _run_until(stop, node)


def _run_until(stop: threading.Event, node: OccupancyNode) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    failures: list[Exception] = []
    spinning = threading.Thread(target=_start_and_spin, args=(executor, node, stop, failures), name="spin", daemon=True)
    spinning.start()
    stop.wait()
    executor.shutdown(timeout_sec=0.3)
    # The thread has to be gone before rclpy.shutdown, or the process aborts.
    spinning.join(LOADING_SECONDS)
    if spinning.is_alive():
        node.get_logger().warning("the network is still loading; exiting without it")
        _exit()
    if not node.stop():
        # The report is written. The network runs in its thread until the process exits, and uses ROS only after its frame.
        node.get_logger().warning("the last frame is still being processed; exiting without it")
    node.destroy_node()
    rclpy.shutdown()
    if failures:
        return _fail(failures[0])
    _exit()


def _start_and_spin(
    executor: SingleThreadedExecutor, node: OccupancyNode, stop: threading.Event, failures: list[Exception]
) -> None:
    config = node.config
    try:
        if config.autostart or config.build_only:
            node.start(activate=not config.build_only)
        if config.build_only:
            if node.inference and node.inference.degraded:
                raise ConfigError(node.inference.degraded)
            node.get_logger().info("engine built; exiting, as parameter build_only is true")
            stop.set()
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    except Exception as error:
        if not isinstance(error, _EXPECTED_ERRORS):
            traceback.print_exc()
        failures.append(error)
    finally:
        stop.set()


def _exit() -> NoReturn:
    """Exit without the interpreter's teardown, which takes torch a second or two on a busy machine."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _fail(error: Exception) -> int:
    print(f"occupancy node: {error}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
