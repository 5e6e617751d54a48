# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checks of the environment for ROS: middleware, log folder and shared memory, with remedies.

This module must not import rclpy: its import aborts the process if RMW_IMPLEMENTATION is not installed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from occle_core.console import print_notice
from occle_core.paths import expand_home

SEGMENT_BYTES = 67_108_864
"""Shared memory of every DDS participant: `segment_size` of config/fastdds_shm.xml."""
MAX_DOMAIN = 232
"""Largest ROS_DOMAIN_ID with UDP ports."""
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Names since Fast DDS 3 (ROS 2 Kilted) and before it."""
_OLD_NAME_DISTRIBUTIONS = ("humble", "iron", "jazzy")
_SPARE_BYTES = 4 << 20
_RMW = "RMW_IMPLEMENTATION"


class TransportError(RuntimeError):
    """ROS cannot start; the message has the reason and the remedy."""


def installed_middleware() -> list[str]:
    """Valid values of RMW_IMPLEMENTATION, from the ament index; empty without an index."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    index = Path("share/ament_index/resource_index/rmw_typesupport")
    folders = [prefix / index for prefix in [*prefixes, Path(sys.prefix)]]
    return sorted({file.name for folder in folders if folder.is_dir() for file in folder.iterdir()} - {"rmw_implementation"})


def check_middleware() -> None:
    """Check RMW_IMPLEMENTATION and ROS_DOMAIN_ID, for commands that communicate with other processes.

    Raises:
        TransportError: the middleware is not installed, or the domain is invalid.
    """
    domain = os.environ.get("ROS_DOMAIN_ID", "")
    if domain and not (domain.isascii() and domain.isdigit() and int(domain) <= MAX_DOMAIN):  # Fast DDS would abort the process
        raise TransportError(
            f"ROS_DOMAIN_ID={domain} is not a valid domain; set it to a number from 0 to {MAX_DOMAIN}, or unset it"
        )
    name, known = os.environ.get(_RMW), installed_middleware()
    if name and known and name not in known:
        raise TransportError(
            f"{_RMW}={name} is not installed in this Python (installed: {', '.join(known)}); unset {_RMW}, or install {name}"
        )


def ignore_missing_middleware() -> None:
    """Unset an RMW_IMPLEMENTATION that is not installed, for commands that only read and write messages."""
    name, known = os.environ.get(_RMW), installed_middleware()
    if name and known and name not in known:
        del os.environ[_RMW]


def profile_variable() -> str:
    """The environment variable in which the installed Fast DDS looks for its profiles."""
    new, old = PROFILE_VARIABLES
    distribution = os.environ.get("ROS_DISTRO")
    if distribution:
        return old if distribution in _OLD_NAME_DISTRIBUTIONS else new
    try:  # ROS from wheels sets no ROS_DISTRO
        return old if int(version("rclpy").split(".")[0]) < 9 else new
    except PackageNotFoundError:
        return new


def ensure_log_folder() -> None:
    """Set ROS_LOG_DIR to a temporary folder, with a message, if the log folder of rclpy is not writable."""
    home = os.environ.get("ROS_HOME") or (os.path.join(os.environ["HOME"], ".ros") if os.environ.get("HOME") else "")
    given = os.environ.get("ROS_LOG_DIR") or (os.path.join(home, "log") if home else "")
    folder = expand_home(given)
    why = "HOME is not set"
    if given:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return
        except OSError as error:
            why = f"{folder} cannot be written ({error.strerror})"
    os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="ros_log_")
    print_notice(f"ROS logs to {os.environ['ROS_LOG_DIR']}: {why}; set ROS_LOG_DIR to a writable folder")


def has_shared_memory() -> bool:
    """True if a participant's segment fits into /dev/shm; otherwise it prints a message with the remedy.

    Fast DDS would print three errors, leave an empty file there, and fall back to UDP.
    """
    try:
        state = os.statvfs("/dev/shm")
        free, writable = state.f_bavail * state.f_frsize, os.access("/dev/shm", os.W_OK)
    except OSError:
        free, writable = 0, False
    if writable and free >= SEGMENT_BYTES + _SPARE_BYTES:
        return True
    room = f"has {free / 1e6:.0f} MB free" if writable else "cannot be written"
    print_notice(
        f"/dev/shm {room}, and each process needs {(SEGMENT_BYTES + _SPARE_BYTES) / 1e6:.0f} MB: messages are sent by UDP, which "
        "loses large ones; start the container with --ipc=host or --shm-size=1g, or remove what killed processes left there "
        "(`fastdds shm clean`)"
    )
    return False
