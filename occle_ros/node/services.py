# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Services of the node: each request is worked on in a thread, while frames are processed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from occle_core.mapping.storage import MapFileError
from occle_core.paths import expand_home
from occle_ros.config.node_config import NodeConfig
from occle_ros.mapping.runner import MapRunner
from occle_ros.node.inference import STARTUP_ERRORS, InferenceRunner
from occle_ros.pipeline.statistics import Statistics
from occle_ros.topics import outputs

Work = Callable[[Any], str]


class ServiceError(Exception):
    """The response of a request that cannot be met."""


class NodeState(Protocol):
    """State of the node; `inference` is None while it is not configured, `map` while it is not active."""

    config: NodeConfig
    statistics: Statistics
    inference: InferenceRunner | None
    map: MapRunner | None


class Services:
    """Services `outputs.SERVICES`.

    Args:
        node: owner of the services.
        state: what they work on.
        on_done: called with every success, "reload: ...".
        on_failure: called with every failure.
    """

    def __init__(self, node: Node, state: NodeState, on_done: Callable[[str], None], on_failure: Callable[[str], None]) -> None:
        self._node, self._state, self._on_done, self._on_failure = node, state, on_done, on_failure
        # A callback group of its own: while it waits for a thread, the default group must keep running.
        self._group = ReentrantCallbackGroup()
        self._serve(outputs.SAVE_TIMINGS, Trigger, self._save_timings)
        self._serve(outputs.RELOAD_BUNDLE, Trigger, self._reload_bundle)
        self._serve(outputs.SAVE_MAP, Trigger, self._save_map)
        self._serve(outputs.LOAD_MAP, Trigger, self._load_map)
        self._serve(outputs.CLEAR_MAP, Trigger, self._clear_map)
        self._serve(outputs.PAUSE_MAP, SetBool, self._pause_map)

    def _serve(self, service: outputs.Service, kind: Any, work: Work) -> None:
        async def answer(request: Any, response: Any) -> Any:
            done: Future[tuple[bool, str]] = Future(executor=self._node.executor)

            def run() -> None:
                try:
                    done.set_result((True, work(request)))
                except ServiceError as error:
                    done.set_result((False, str(error)))
                except Exception as error:  # of any kind: it is returned in the response
                    done.set_result((False, f"{type(error).__name__}: {error}"))

            threading.Thread(target=run, name=service.name, daemon=True).start()
            result = await done
            assert result is not None  # only a cancelled future has none
            response.success, response.message = result
            log = self._on_done if response.success else self._on_failure
            log(f"{service.name.removeprefix('~/')}: {response.message}")
            return response

        self._node.create_service(kind, service.name, answer, callback_group=self._group)

    def _save_timings(self, request: Any) -> str:
        folder = self._state.config.timings_folder or _ros_home()
        file = expand_home(folder) / f"occupancy_timings_{time.strftime('%Y%m%d_%H%M%S')}.csv"
        try:
            rows = self._state.statistics.write_table(file)
        except OSError as error:
            raise ServiceError(f"the timings cannot be written: {error}; see parameter timings_folder") from error
        return f"{file} ({rows} frames)"

    def _reload_bundle(self, request: Any) -> str:
        inference = self._state.inference
        if inference is None:
            raise ServiceError("no network is loaded: configure the node first")
        try:
            return f"running {inference.reload()} on {inference.engine}"
        except Exception as error:
            kind = "" if isinstance(error, STARTUP_ERRORS) else f"{type(error).__name__}: "
            raise ServiceError(f"{kind}{error}. Still running {inference.bundle_id} on {inference.engine}") from error

    def _save_map(self, request: Any) -> str:
        try:
            return self._map.save(self._map_file)
        except OSError as error:
            raise ServiceError(
                f"the map cannot be written: {error}; see parameter map.file. What was there before stays"
            ) from error
        except ValueError as error:
            raise ServiceError(str(error)) from error

    def _load_map(self, request: Any) -> str:
        try:
            return self._map.load(self._map_file)
        except (MapFileError, ValueError) as error:
            raise ServiceError(f"{error}. The map stays as it was") from error

    def _clear_map(self, request: Any) -> str:
        self._map.clear()
        return "the map is empty"

    def _pause_map(self, request: Any) -> str:
        self._map.pause(request.data)
        return "paused: the map stays as it is" if request.data else "frames go into the map"

    @property
    def _map(self) -> MapRunner:
        world = self._state.map
        if world is None:
            raise ServiceError("there is no map: activate the node first")
        return world

    @property
    def _map_file(self) -> Path:
        return expand_home(self._state.config.map.file or f"{_ros_home()}/map.occlemap")


def _ros_home() -> str:
    return os.environ.get("ROS_HOME") or "~/.ros"
