# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling map of the node, in a thread of its own: the path of the frames queues each and does not wait."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rclpy.node import Node

from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapUpdate, RollingMap
from occle_core.mapping.classes import ground
from occle_core.mapping.snapshot import float32_step
from occle_core.mapping.storage import load_map, save_map
from occle_core.occupancy import Occupancy
from occle_core.sensors.transforms import frame_name
from occle_core.taxonomy import Taxonomy
from occle_ros.calibration.calibrated_rig import TransformLookup
from occle_ros.calibration.files import CalibrationError
from occle_ros.config.node_config import NodeConfig
from occle_ros.mapping.poses import scan_pose
from occle_ros.mapping.publishers import MapPublishers
from occle_ros.node.throttle import LogThrottle, RateLimiter
from occle_ros.node.worker import Worker
from occle_ros.pipeline.pipeline import ProcessedFrame
from occle_ros.pipeline.statistics import Statistics

NICENESS = 10
"""Of the map's thread, above the process's, as of `nice`: on busy processors it gets a tenth of a network thread's share."""
WAITING = "waiting for the first frame"
JUMPS = {
    "pose_jump": "the pose jumped: {frame} has to be continuous (odometry); a robot that was carried starts a new map",
    "clock_jump": "the stamps jumped, or no frame came for map.max_gap",
    "outside_map": "the robot is outside the map that was loaded or paused; a loaded map needs {frame} where it stood before",
}
NO_GROUND = (
    "class list {classes} names no ground, so the map's costmap is unknown everywhere: ground: [...] in the list "
    "(docs/how_to/own_classes.md)"
)


class MapRunner:
    """Rolling map of one activation; `close` ends it.

    Args:
        node: owner of the publishers.
        config: attribute `config` may be replaced by `reconfigure`.
        taxonomy: the network's.
        cell: edge length of the network's cells, metres.
        statistics: counts frames by what became of them, group "map".
        transforms: gives TF; raises CalibrationError where it cannot be received. Called by `check` alone.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        taxonomy: Taxonomy,
        cell: float,
        statistics: Statistics,
        transforms: Callable[[], TransformLookup],
    ) -> None:
        self._node, self._config, self._statistics, self._find_transforms = node, config, statistics, transforms
        self._publishers = MapPublishers(node, config, statistics)
        self._transforms: TransformLookup | None = None
        self._has_tf = True
        self._world = RollingMap(taxonomy, config.map.constants(cell), config.tf.world_frame)
        self._lock = threading.RLock()  # of the map and its publishers
        self._log_throttle = LogThrottle(60.0)
        self._was_idle = self._is_paused = self._is_far = False
        self._limit = RateLimiter()
        self._has_yielded = False
        self._problem = WAITING
        self._times: dict[str, float] = {}
        self._worker: Worker[ProcessedFrame] = Worker(self._work, self._on_error, "map")

    @property
    def is_wanted(self) -> bool:
        """True if frames go into the map: parameter map.update, or a subscriber."""
        update = self._config.map.update
        return update == "always" or (update == "subscribed" and self._publishers.subscriber_count() > 0)

    def reconfigure(self, config: NodeConfig) -> None:
        """Take changed rates, heights and classes."""
        self._config = self._publishers.config = config

    def check(self) -> None:
        """Begin to listen to TF once the map is wanted; called by the node's timer."""
        if self._transforms is None and self._has_tf and self.is_wanted:
            try:
                self._transforms = self._find_transforms()
            except CalibrationError:
                self._has_tf = False
                self._off("poses come from TF, and tf2_msgs is not installed (it is part of a ROS installation)")

    def offer(self, processed: ProcessedFrame) -> None:
        """Queue a frame, if the map is wanted; a waiting one is replaced and counted."""
        if self._is_paused:
            return
        if not self.is_wanted:
            self._was_idle = True
        elif self._limit.allows(self._config.map.max_rate_hz) and self._worker.submit(processed) is not None:
            self._statistics.count("map", "replaced_by_newer")

    def close(self, timeout: float) -> bool:
        """End the thread and destroy the publishers; False if the frame in progress did not finish in time."""
        stopped = self._worker.stop(timeout)
        self._publishers.close()
        return stopped

    def state(self) -> tuple[bool, str, dict[str, str]]:
        """Whether the map works or is not wanted, the same in words, and numbers: for diagnostics."""
        numbers = {name: f"{milliseconds:.1f}" for name, milliseconds in self._times.items()}
        if self._config.map.update == "never":
            return True, "off: parameter map.update is never", {}
        if self._is_paused:
            return True, "paused (~/pause_map)", numbers
        if not self.is_wanted:
            return True, "idle: nobody subscribes to ~/map/*", numbers
        if self._problem == WAITING:
            return True, WAITING, numbers
        return not self._problem, f"off: {self._problem}" if self._problem else f"running in {self._world.frame_id}", numbers

    def save(self, path: Path) -> str:
        """Write the map; returns what was written.

        Raises:
            OSError: it cannot be written. ValueError: the map is empty.
        """
        with self._lock:
            empty, shot = self._world.is_empty, self._world.snapshot()
        if empty:
            raise ValueError(f"the map is empty: {self.state()[1]}")
        save_map(path, shot)
        return f"{path} ({np.count_nonzero(shot.occupied)} occupied cells, {path.stat().st_size / 1e6:.1f} MB)"

    def load(self, path: Path) -> str:
        """Replace the map by a file's; returns what was read.

        Raises:
            MapFileError, ValueError: it is unreadable, or of another frame, size or class list.
        """
        saved = load_map(path)
        with self._lock:
            if saved.frame_id != self._world.frame_id:
                raise ValueError(f"{path} lies in frame {saved.frame_id!r}, this map in {self._world.frame_id!r} (tf.world_frame)")
            self._world.restore(saved)
            self._publish_anew()
        return f"{path} ({np.count_nonzero(saved.occupied)} occupied cells)"

    def clear(self) -> None:
        """Forget the map."""
        with self._lock:
            self._world.clear()
            self._publish_anew()

    def pause(self, paused: bool) -> None:
        """Keep frames out of the map, or let them in again."""
        with self._lock:
            if self._is_paused and not paused:
                self._world.resume()
            self._is_paused = paused

    def _publish_anew(self) -> None:
        self._publishers.restart()
        if due := self._publishers.due():
            # Stamp 0 is the newest transform's to tf2: a file's stamp is long gone.
            self._publishers.publish(replace(self._world.snapshot(), stamp=0), due)

    def _work(self, processed: ProcessedFrame) -> None:
        if not self._has_yielded:
            self._has_yielded = True
            _lower_priority()
        occupancy, frame = processed.occupancy, processed.assembled.frame
        is_in_world = processed.world_frame == frame_name(self._world.frame_id)
        T_world_lidar, problem = frame.T_world_lidar if is_in_world else None, ""
        if T_world_lidar is None:
            if self._transforms is None:
                self._statistics.count("map", "no_pose")
                return  # `check` has said why, or is about to begin
            timeout = self._config.map.pose_timeout_ms / 1e3
            body, T_body_lidar = processed.body
            T_world_body, problem = scan_pose(self._transforms, self._world.frame_id, body, occupancy.stamp, timeout)
            T_world_lidar = None if T_world_body is None else T_world_body @ T_body_lidar
        T_world_grid = None if T_world_lidar is None else T_world_lidar @ np.linalg.inv(frame.T_grid_lidar)
        with self._lock:
            if self._is_paused:
                return
            self._prepare(occupancy)
            began = time.perf_counter()
            update = self._world.update(occupancy, frame, T_world_grid)
            updated = time.perf_counter()
            self._report(update, problem)
            if update.accepted:
                self._publish(update)
                self._times = {"update_ms": (updated - began) * 1e3, "publish_ms": (time.perf_counter() - updated) * 1e3}

    def _prepare(self, occupancy: Occupancy) -> None:
        taxonomy, constants = occupancy.taxonomy, self._config.map.constants(occupancy.grid.resolution)
        if not taxonomy.is_same_list(self._world.taxonomy) or constants != self._world.config:
            self._world = RollingMap(taxonomy, constants, self._world.frame_id)
            self._publishers.restart()
            new = f"{taxonomy.name}, {constants.resolution:g} m"
            self._warn(f"the map starts anew: the network has other classes or cells now ({new})")

    def _publish(self, update: MapUpdate) -> None:
        if update.restarted:
            self._publishers.restart()
        if due := self._publishers.due():
            self._publishers.publish(self._world.snapshot(), due)

    def _report(self, update: MapUpdate, problem: str) -> None:
        if not update.accepted:
            self._statistics.count("map", update.refused)
            if update.refused == "no_pose":
                self._off(f"the pose of the scans is not known: {problem}; {self._world.frame_id} is parameter tf.world_frame")
            else:
                self._off("a pose is not finite or no rigid motion; repair its publisher on /tf")
            return
        if self._problem:
            self._problem = ""
            self._node.get_logger().info(f"the map is on, in frame {self._world.frame_id}")
            if not ground(self._world.taxonomy):
                self._warn(NO_GROUND.format(classes=self._world.taxonomy.name))
        self._statistics.count("map", "frames")
        self._check_distance(self._world.window)
        was_idle, self._was_idle = self._was_idle, False
        if update.restarted == "clock_jump" and was_idle:
            self._node.get_logger().info("the map starts anew: for a while nobody subscribed to ~/map/* (parameter map.update)")
        elif update.restarted:
            self._statistics.count("map", update.restarted)
            self._warn(f"the map starts anew: {JUMPS[update.restarted].format(frame=self._world.frame_id)}")

    def _check_distance(self, window: VoxelGrid) -> None:
        step, was_far = float32_step(window), self._is_far
        self._is_far = step > window.resolution / 100
        if self._is_far and not was_far:
            self._warn(
                f"the robot is so far from the origin of {self._world.frame_id} that positions in ~/map/voxels and ~/map/distance, "
                f"which are float32, have steps of {step:g} m; set tf.world_frame to a frame that begins near the robot (odom)"
            )

    def _off(self, problem: str) -> None:
        """Say why the map gets no frames: once, until it has got one again."""
        if self._problem in ("", WAITING):
            self._warn(f"the map is off: {problem}")
        self._problem = problem

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text)

    def _on_error(self, processed: ProcessedFrame, error: Exception) -> None:
        self._statistics.count("map", "internal_error")
        text = f"{type(error).__name__}: {error}"
        if self._log_throttle.should_log(text):
            self._node.get_logger().error(f"scan {processed.occupancy.stamp / 1e9:.3f} is not in the map: {text}")


def _lower_priority() -> None:
    """Let all other threads of the process go first; a thread has a priority of its own on Linux alone."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS))
