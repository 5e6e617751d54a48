"""What ROS needs of the environment: a middleware that is installed, a log folder, and shared memory; a remedy where it is missing.

Nothing here imports rclpy: with an RMW_IMPLEMENTATION that is not installed its import ends the process.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from occle_core.console import print_notice
from occle_core.paths import expand_home

SEGMENT_BYTES = 67_108_864
"""Shared memory that every participant takes: `segment_size` of config/fastdds_shm.xml."""
MAX_DOMAIN = 232
"""Higher ones have no UDP ports."""
_SPARE_BYTES = 4 << 20
_RMW = "RMW_IMPLEMENTATION"


class TransportError(RuntimeError):
    """ROS cannot be started here; the message says why, and the remedy."""


def installed_middleware() -> list[str]:
    """Names that RMW_IMPLEMENTATION may have, from the ament index; empty where there is none."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    index = Path("share/ament_index/resource_index/rmw_typesupport")
    folders = [prefix / index for prefix in [*prefixes, Path(sys.prefix)]]
    return sorted({file.name for folder in folders if folder.is_dir() for file in folder.iterdir()} - {"rmw_implementation"})


def check_middleware() -> None:
    """For commands that talk to other processes.

    Raises:
        TransportError: RMW_IMPLEMENTATION names a middleware that is not installed, or ROS_DOMAIN_ID is none.
    """
    domain = os.environ.get("ROS_DOMAIN_ID", "")
    if domain and not (domain.isascii() and domain.isdigit() and int(domain) <= MAX_DOMAIN):  # Fast DDS would end the process
        raise TransportError(f"ROS_DOMAIN_ID={domain} is no domain; set it to a number from 0 to {MAX_DOMAIN}, or unset it")
    name, known = os.environ.get(_RMW), installed_middleware()
    if name and known and name not in known:
        raise TransportError(
            f"{_RMW}={name} is not installed here, but {', '.join(known)}; unset {_RMW}, or install {name} for this Python as well"
        )


def ignore_missing_middleware() -> None:
    """For commands that only read and write messages, which is the same with every middleware."""
    name, known = os.environ.get(_RMW), installed_middleware()
    if name and known and name not in known:
        del os.environ[_RMW]


def use_log_folder() -> None:
    """See that rclpy can log: where its folder cannot be written, ROS_LOG_DIR becomes a temporary one, which is said."""
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
    print_notice(f"ROS logs to {os.environ['ROS_LOG_DIR']}: {why}; set ROS_LOG_DIR to a folder that can be written")


def has_shared_memory() -> bool:
    """Whether a participant's segment fits into /dev/shm; where it does not, that is said.

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
        f"/dev/shm {room}, and each process needs {(SEGMENT_BYTES + _SPARE_BYTES) / 1e6:.0f} MB: messages go through UDP, which "
        "loses large ones; start the container with --ipc=host or --shm-size=1g, or remove what killed processes left there "
        "(`fastdds shm clean`)"
    )
    return False
