# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Startup, signal handling and shutdown of ROS processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occle_core.paths import share_file
from occle_ros.system.environment import (
    PROFILE_VARIABLES,
    TransportError,
    check_middleware,
    ensure_log_folder,
    has_shared_memory,
    profile_variable,
)

if TYPE_CHECKING:
    from rclpy.node import Node


def use_shared_memory_profile() -> Path | None:
    """Set the Fast DDS profile with shared memory segments that are large enough for images and clouds.

    Without the profile large best-effort messages are lost and reliable ones take five times as long. Call it before
    `rclpy.init` in every publisher and subscriber. A profile in the environment is kept. If /dev/shm is too small for the
    segments, Fast DDS is set to UDP only.

    Returns:
        The profile that was set; None if the environment has one already or shared memory is too small.
    """
    profile = share_file("config/fastdds_shm.xml")
    given = [os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)]
    if any(name != str(profile) for name in given):
        return None
    if not has_shared_memory():
        for name in PROFILE_VARIABLES:
            os.environ.pop(name, None)
        os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
        return None
    if given:
        return None
    os.environ[profile_variable()] = str(profile)
    return profile


@contextmanager
def ros_node(name: str) -> Iterator[Node]:
    """Node in a context of its own, without rclpy's signal handlers and parameter services, as a context manager.

    It is for tools (player, recorder) that may not spin.

    Raises:
        TransportError: rclpy cannot start, for example because ROS_DOMAIN_ID is invalid.
    """
    prepare_ros()
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    try:
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy's own errors have no common base
        raise TransportError(f"ROS cannot start: {' '.join(str(error).split())}") from error
    try:
        try:
            node = rclpy.create_node(name, context=context, start_parameter_services=False, enable_rosout=False)
        except Exception as error:
            raise TransportError(f"the ROS node cannot be created: {' '.join(str(error).split())}") from error
        try:
            yield node
        finally:
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def prepare_ros() -> None:
    """Prepare the environment before `rclpy.init`: middleware, shared memory and log folder.

    Raises:
        TransportError: the middleware of RMW_IMPLEMENTATION is not installed.
    """
    check_middleware()
    use_shared_memory_profile()
    ensure_log_folder()


def termination_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and SIGHUP (the terminal closes) unless it is ignored (`nohup`)."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hangs_up else ()))


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Event that is set by the `termination_signals`; the previous handlers are restored at the end of the `with`.

    Outside the main thread Python allows no handlers, and the event is not set by signals.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, stack: Any) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in termination_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
