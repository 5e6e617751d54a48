"""From collected messages to an Occupancy: what the live node and the offline run have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from occle_core.camera import Camera
from occle_core.frame import Frame
from occle_core.occupancy import Occupancy
from occle_core.predictor import Predictor
from occle_ros.calibration import Calibration
from occle_ros.config import ConfigError, NodeConfig
from occle_ros.conversions import image_from_message, points_from_cloud
from occle_ros.sync import MILLISECOND, Collected, Collector

_NO_CAMERA = Camera(np.eye(3), np.eye(4), 1, 1)
"""Holds the place of a camera whose calibration is not known; its image is None, so it is never projected into."""


@dataclass(frozen=True)
class Processed:
    """What became of one collected frame.

    Args:
        frame: what the network was given.
        occupancy: what it said; `timings` begin with "convert" and end with the network's stages.
        dropped_points: points that were left out because they are NaN or infinite.
        masked: camera -> reason, for the cameras that the frame went without.
    """

    frame: Frame
    occupancy: Occupancy
    dropped_points: int
    masked: Mapping[str, str]


class Pipeline:
    """Conversion and prediction of collected messages.

    Args:
        predictor: the network.
        config: the node's configuration.
        calibration: the rig's calibration.

    Raises:
        ConfigError: more cameras are configured than the network was trained for.
    """

    def __init__(self, predictor: Predictor, config: NodeConfig, calibration: Calibration) -> None:
        if len(config.camera_names) > predictor.cameras:
            raise ConfigError(
                f"parameter camera_names has {len(config.camera_names)} cameras, bundle {predictor.bundle_id} was trained for "
                f"{predictor.cameras}; name fewer cameras or use a bundle of this rig (`occle-train fit` makes one)"
            )
        self._predictor, self._config, self._calibration = predictor, config, calibration

    def process(self, collected: Collected[Any]) -> Processed:
        """Messages -> Frame -> Occupancy.

        Raises:
            ConversionError: a message cannot be read.
            CalibrationError: the rig is not known (yet).
            FrameError: the network cannot use the frame: no points, an image that does not fit its CameraInfo.
        """
        began = time.perf_counter()
        points, dropped = points_from_cloud(collected.scan, self._config.lidar.intensity_scale)
        rig = self._calibration.rig(collected.scan.header.frame_id)
        masked = dict(collected.missing) | {name: why for name, why in rig.unknown.items() if name not in collected.missing}
        frame = Frame(
            stamp=collected.stamp,
            points=points,
            images=[None if message is None or camera is None else image_from_message(message)
                    for message, camera in zip(collected.images, rig.cameras)],
            cameras=[camera or _NO_CAMERA for camera in rig.cameras],
            T_grid_lidar=rig.T_grid_lidar,
        )  # fmt: skip
        converted = (time.perf_counter() - began) * 1e3
        occupancy = self._predictor.predict(frame, rig.grid_frame)
        return Processed(frame, replace(occupancy, timings={"convert": converted, **occupancy.timings}), dropped, masked)


def collector_for(config: NodeConfig) -> Collector[Any]:
    """The collector that the configuration asks for."""
    names = config.camera_names
    return Collector(
        names,
        tolerance=round(config.sync.tolerance_ms * MILLISECOND),
        deadline=round(config.sync.deadline_ms * MILLISECOND),
        offsets=[round(config.cameras[name].time_offset_ms * MILLISECOND) for name in names],
    )
