"""The node as a process: it starts itself, spins in a thread, and leaves within two seconds of SIGINT or SIGTERM."""

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

from occle_core.bundle import BundleError
from occle_ros.calibration.files import CalibrationError
from occle_ros.config.groups import ConfigError
from occle_ros.node.node import OccupancyNode
from occle_ros.system.environment import TransportError
from occle_ros.system.ros_process import prepare_ros, stop_signals

CANNOT_RUN = (ConfigError, CalibrationError, BundleError, ParameterException)
LOADING_SECONDS = 0.8


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM.

    Args:
        args: with --ros-args, as from the command line.

    Returns:
        1 for a configuration that cannot run. After a run that ended as it should the process ends here, with exit code 0.
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
        except CANNOT_RUN as error:
            rclpy.shutdown()
            return _fail(error)
        return _run(node, stop)


def _run(node: OccupancyNode, stop: threading.Event) -> int:
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
        node.get_logger().warning("the network is still being loaded; leaving without it")
        _leave()
    if not node.stop():
        # The report is written. The network goes on in its thread until the process ends, and uses nothing of ROS before its frame
        # is done.
        node.get_logger().warning("the last frame takes long; leaving without it")
    node.destroy_node()
    rclpy.shutdown()
    if failures:
        return _fail(failures[0])
    _leave()


def _start_and_spin(
    executor: SingleThreadedExecutor, node: OccupancyNode, stop: threading.Event, failures: list[Exception]
) -> None:
    config = node.config
    try:
        if config.autostart or config.build_only:
            node.start(activate=not config.build_only)
        if config.build_only:
            if node.network and node.network.degraded:
                raise ConfigError(node.network.degraded)
            node.get_logger().info("built; parameter build_only is true, so this is the end")
            stop.set()
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    except Exception as error:
        if not isinstance(error, CANNOT_RUN):
            traceback.print_exc()
        failures.append(error)
    finally:
        stop.set()


def _leave() -> NoReturn:
    """End the process without the interpreter's teardown, which takes torch a second or two on a busy machine."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _fail(error: Exception) -> int:
    print(f"occupancy node: {error}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
