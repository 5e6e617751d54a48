"""The network that the node runs: loaded, tried once, replaced while frames go through, and given up for a simpler engine."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from occle_core.bundle import BundleError
from occle_core.engines.base import EngineError, describe
from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.predictor import Predictor
from occle_core.sensors.messages import ConversionError
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import Calibration
from occle_ros.config.classes import check_classes
from occle_ros.config.groups import ConfigError
from occle_ros.config.node_config import NodeConfig
from occle_ros.node.subscriptions import ReceivedScan
from occle_ros.pipeline.pipeline import Pipeline, Processed
from occle_ros.sync.lidar_led import SyncedMessages

PATIENCE = 3
"""So many frames in a row that fail for no fault of theirs, and the engine is given up."""
FALLBACK = "torch"
OUR_INPUTS_FAULT = (FrameError, ConversionError, CalibrationError)
CANNOT_RUN = (ConfigError, BundleError)
Told = Callable[[str], None]


class InferenceRunner:
    """One predictor at a time, ready to run: it has made one prediction before it is used.

    Args:
        config: which bundle and engine; also what is checked against the bundle.
        calibration: the rig's.
        tell: called with a sentence when an engine is given up.
        progress: called with what an engine says while it is built.

    Raises:
        ConfigError, BundleError: the bundle cannot be used.
    """

    def __init__(self, config: NodeConfig, calibration: Calibration, tell: Told, progress: Told) -> None:
        self._config, self._calibration, self._tell, self._progress = config, calibration, tell, progress
        self._replacing = threading.Lock()
        self._failures = 0
        self.degraded = ""
        self.stages: tuple[str, ...] = ()
        self._load_configured()

    @property
    def engine(self) -> str:
        """What runs the network, in words."""
        return describe(self._predictor.engine)

    @property
    def frames(self) -> int:
        """How many frames it looks at; of more than one, the scans' poses are needed."""
        return self._predictor.num_frames

    @property
    def max_concurrent(self) -> int:
        """How many threads may call `process` at the same time."""
        return self._predictor.max_concurrent

    @property
    def bundle_id(self) -> str:
        """Name and content hash of the bundle."""
        return self._predictor.bundle_id

    def process(self, synced: SyncedMessages[ReceivedScan]) -> Processed:
        """One frame through conversion and network.

        Raises:
            FrameError, ConversionError, CalibrationError: the frame cannot be used.
            Exception: what the engine raised; the `PATIENCE`th time in a row the engine has been replaced when this returns.
        """
        try:
            processed = self._pipeline.process(synced)
        except OUR_INPUTS_FAULT:
            raise
        except Exception as error:
            self._failures += 1
            if self._failures >= PATIENCE:
                self._fall_back(error)
            raise
        self._failures = 0
        return processed

    def reload(self) -> str:
        """Load the bundle again and swap it in between two frames; whoever runs on the old network finishes with it.

        Returns:
            The id of the new bundle.

        Raises:
            ConfigError, BundleError: the bundle cannot be used; the old network goes on. RuntimeError: a reload is under way.
        """
        if not self._replacing.acquire(blocking=False):
            raise RuntimeError("the network is being replaced already; ask again in a moment")
        try:
            self._load_configured()
        finally:
            self._replacing.release()
        return self.bundle_id

    def check(self, config: NodeConfig) -> None:
        """Take note of a changed configuration, or refuse one that this network cannot serve.

        Raises:
            ConfigError: it asks for a class that the network does not know.
        """
        check_classes(config.show.classes, config.occupancy_grid.drivable, self._predictor.taxonomy)
        self._config = config

    def _load_configured(self) -> None:
        """The configured engine, or where that does not work here, the fallback."""
        engine, problem = self._config.engine, ""
        try:
            self._install(engine)
        except CANNOT_RUN:
            raise
        except Exception as error:  # an engine's build may fail in any way
            if engine == FALLBACK:
                raise
            why = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            problem = f"engine {engine} cannot be used: {why}. Running {FALLBACK} instead, which is slower"
            self._tell(problem)
            self._install(FALLBACK)
        self.degraded = problem

    def _fall_back(self, error: Exception) -> None:
        problem = f"{self._failures} frames in a row failed with engine {self.engine}; the last: {type(error).__name__}: {error}. "
        self._failures = 0
        if self._predictor.engine.name == FALLBACK:
            # Nothing simpler is left; a fresh start helps against broken state.
            problem += "The bundle is loaded again"
        else:
            problem += f"Going on with {FALLBACK}, which is slower; ~/reload_bundle tries the configured engine again"
        try:
            with self._replacing:
                self._install(FALLBACK)
        except Exception as failure:  # whatever it is, the node lives and the next frames are tried
            problem += f", which failed: {failure}"
        self.degraded = problem
        self._tell(problem)

    def _install(self, engine: str) -> None:
        predictor = load(self._config, engine, self._progress)
        check_classes(self._config.show.classes, self._config.occupancy_grid.drivable, predictor.taxonomy)
        pipeline = Pipeline(predictor, self._config, self._calibration)
        self.stages = ("receive", "wait", "convert", *warm_up(predictor), "turn", "publish")
        # One assignment of each: a frame takes the pipeline once, at its beginning.
        self._pipeline, self._predictor = pipeline, predictor


def load(config: NodeConfig, engine: str, progress: Told) -> Predictor:
    """The configured bundle on an engine, in the configured precision where that engine is the configured one.

    Raises:
        ConfigError, BundleError: the bundle cannot be used. EngineError: the engine cannot.
    """
    precision = config.precision if engine == config.engine else "fp32"
    threads = config.threads or None
    return Predictor.load(config.bundle_dir(), engine, precision, threads, progress, config.max_concurrent_frames)


def warm_up(predictor: Predictor) -> tuple[str, ...]:
    """One prediction of random points: the first one is slower than all others. Returns the names of the network's stages."""
    grid = predictor.grid
    at = np.random.default_rng(0).uniform(grid.origin, grid.upper, (5000, 3))
    points = np.hstack([at, np.zeros((len(at), 1))]).astype(np.float32)
    camera = Camera(np.array([[64, 0, 64], [0, 64, 32], [0, 0, 1]]), np.eye(4), 128, 64)
    images = [np.zeros((64, 128, 3), np.uint8)] * predictor.num_cameras
    return tuple(predictor.predict(Frame(0, points, images, [camera] * predictor.num_cameras)).timings)
