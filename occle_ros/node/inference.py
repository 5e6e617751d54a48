# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Inference runner of the node: loading, warm-up, reload of the bundle, and fallback to another engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from occle_core.bundle import BundleError
from occle_core.engines.base import describe
from occle_core.errors import EngineError
from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.predictor import Predictor
from occle_core.sensors.messages import ConversionError
from occle_core.taxonomy import Taxonomy
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.classes import check_classes
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.rig_parameters import rig_classes
from occle_ros.pipeline.pipeline import Pipeline, ProcessedFrame
from occle_ros.sync.lidar_led import SyncedMessages

MAX_FAILURES = 3
"""Consecutive engine failures after which the fallback engine is loaded."""
FALLBACK_ENGINE = "torch"
INPUT_ERRORS = (FrameError, ConversionError, CalibrationError)
STARTUP_ERRORS = (ConfigError, CalibrationError, BundleError)
"""Errors of a configuration that cannot run; their messages are logged without a traceback."""
TextCallback = Callable[[str], None]


class InferenceRunner:
    """Predictor that is warmed up before use, and can be replaced between two frames.

    Args:
        config: bundle and engine; its class names are validated against the bundle.
        calibration: of the rig.
        log_error: called with a message when the engine is replaced by the fallback.
        on_progress: called with the engine's messages while it is built.
        poses: of the scans, for motion compensation; as for `Pipeline`.

    Raises:
        ConfigError, BundleError: the bundle cannot be used.
    """

    def __init__(
        self,
        config: NodeConfig,
        calibration: Calibration,
        log_error: TextCallback,
        on_progress: TextCallback,
        poses: LidarPoses | None = None,
    ) -> None:
        self._config, self._calibration, self._log_error, self._on_progress = config, calibration, log_error, on_progress
        self._poses = poses
        self._replacing = threading.Lock()
        self._failures = 0
        self.degraded = ""
        self.stages: tuple[str, ...] = ()
        self._load_configured()

    @property
    def engine(self) -> str:
        """Engine, precision and device as text."""
        return describe(self._predictor.engine)

    @property
    def frames(self) -> int:
        """Number of frames of the history, the current one included; more than one need the scans' poses."""
        return self._predictor.num_frames

    @property
    def max_concurrent(self) -> int:
        """Number of threads that may call `process` concurrently."""
        return self._predictor.max_concurrent

    @property
    def bundle_id(self) -> str:
        """Name and content hash of the bundle."""
        return self._predictor.bundle_id

    @property
    def taxonomy(self) -> Taxonomy:
        """Class list of the network."""
        return self._predictor.taxonomy

    @property
    def cell(self) -> float:
        """Edge length of the network's cells, metres."""
        return self._predictor.grid.resolution

    def process(self, synced: SyncedMessages[Any, Any]) -> ProcessedFrame:
        """Process one frame.

        Raises:
            FrameError, ConversionError, CalibrationError: the frame cannot be used.
            Exception: of the engine; after `MAX_FAILURES` in a row the fallback engine is loaded before this raises.
        """
        try:
            processed = self._pipeline.process(synced)
        except INPUT_ERRORS:
            raise
        except Exception as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                self._fall_back(error)
            raise
        self._failures = 0
        return processed

    def reload(self) -> str:
        """Reload the bundle and swap it between two frames; running frames finish on the old network.

        Returns:
            The id of the new bundle.

        Raises:
            ConfigError, BundleError: the bundle cannot be used; the old network stays in use.
            RuntimeError: another reload is running.
        """
        if not self._replacing.acquire(blocking=False):
            raise RuntimeError("another reload is running; try again when it has finished")
        try:
            self._load_configured()
        finally:
            self._replacing.release()
        return self.bundle_id

    def check(self, config: NodeConfig) -> None:
        """Set a changed configuration after validation against the network.

        Raises:
            ConfigError: the network does not have a class that it names.
        """
        check_classes(config, self._predictor.taxonomy)
        self._config = config

    def _load_configured(self) -> None:
        """Load the configured engine, or the fallback engine if that fails."""
        engine, problem = self._config.engine, ""
        try:
            self._install(engine)
        except STARTUP_ERRORS:
            raise
        except Exception as error:  # an engine's build may fail in any way
            if engine == FALLBACK_ENGINE:
                raise
            why = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            problem = f"engine {engine} cannot be used: {why}. Using {FALLBACK_ENGINE} instead, which is slower"
            self._log_error(problem)
            self._install(FALLBACK_ENGINE)
        self.degraded = problem

    def _fall_back(self, error: Exception) -> None:
        problem = f"{self._failures} frames in a row failed with engine {self.engine}; the last: {type(error).__name__}: {error}. "
        self._failures = 0
        if self._predictor.engine.name == FALLBACK_ENGINE:
            # There is no other fallback; a reload helps against corrupted state.
            problem += "The bundle is reloaded"
        else:
            problem += f"Using {FALLBACK_ENGINE}, which is slower; ~/reload_bundle loads the configured engine again"
        try:
            with self._replacing:
                self._install(FALLBACK_ENGINE)
        except Exception as failure:  # of any kind: the node stays alive and tries the next frames
            problem += f", which failed: {failure}"
        self.degraded = problem
        self._log_error(problem)

    def _install(self, engine: str) -> None:
        predictor = load(self._config, engine, self._on_progress)
        check_classes(self._config, predictor.taxonomy)
        self._config.map.constants(predictor.grid.resolution)  # a map that cannot be is said before a frame is
        pipeline = Pipeline(predictor, self._config, self._calibration, self._poses)
        self.stages = ("receive", "wait", "convert", *warm_up(predictor), "reorder_wait", "publish")
        # Atomic: a frame reads the pipeline once, when it starts.
        self._pipeline, self._predictor = pipeline, predictor


def load(config: NodeConfig, engine: str, on_progress: TextCallback) -> Predictor:
    """Load the configured bundle on an engine, in the configured precision if that is the configured engine.

    Raises:
        ConfigError, BundleError: the bundle cannot be used. EngineError: the engine cannot.
    """
    precision = config.precision if engine == config.engine else "fp32"
    threads = config.threads or None
    return Predictor.load(
        config.bundle_dir(), engine, precision, threads, on_progress, config.max_concurrent_frames, rig_classes(config.rig)
    )


def warm_up(predictor: Predictor) -> tuple[str, ...]:
    """Predict random points once, since the first prediction is slow; returns the names of the network's stages."""
    grid = predictor.grid
    at = np.random.default_rng(0).uniform(grid.origin, grid.upper, (5000, 3))
    points = np.hstack([at, np.zeros((len(at), 1))]).astype(np.float32)
    camera = Camera(np.array([[64, 0, 64], [0, 64, 32], [0, 0, 1]]), np.eye(4), 128, 64)
    images = [np.zeros((64, 128, 3), np.uint8)] * predictor.num_cameras
    return tuple(predictor.predict(Frame(0, points, images, [camera] * predictor.num_cameras)).timings)
