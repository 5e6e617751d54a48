"""From synced messages to an Occupancy: what the live node and the offline run have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from occle_core.frame import Frame
from occle_core.occupancy import Occupancy
from occle_core.predictor import Predictor
from occle_ros.calibration.rig import Calibration
from occle_ros.config.groups import ConfigError
from occle_ros.config.node_config import NodeConfig
from occle_ros.pipeline.assemble import assemble
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages


@dataclass(frozen=True)
class Processed:
    """What became of one synced frame.

    Args:
        frame: what the network was given.
        occupancy: what it said; `timings` begin with "convert" and end with the network's stages.
        dropped_points: reason -> how many points were left out.
        masked: camera -> reason, for the cameras that the frame went without.
        image_frames: the frame that each image's header names; "" where there is no image.
        problems: camera -> what is wrong and what would mend it, for what somebody has to mend.
        pose_problem: where the network needs the scan's pose and it is not known, what would mend it.
        notes: what a user should know once.
    """

    frame: Frame
    occupancy: Occupancy
    dropped_points: Mapping[str, int]
    masked: Mapping[str, str]
    image_frames: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    pose_problem: str = ""
    notes: tuple[str, ...] = ()


class Pipeline:
    """Conversion and prediction of synced messages.

    Args:
        predictor: the network.
        config: the node's configuration.
        calibration: the rig's calibration.

    Raises:
        ConfigError: more cameras are configured than the network was trained for.
    """

    def __init__(self, predictor: Predictor, config: NodeConfig, calibration: Calibration) -> None:
        if len(config.camera_names) > predictor.num_cameras:
            raise ConfigError(
                f"parameter camera_names has {len(config.camera_names)} cameras, bundle {predictor.bundle_id} was trained for "
                f"{predictor.num_cameras}; name fewer cameras or use a bundle of this rig (`occle-train fit` makes one)"
            )
        self._predictor, self._config, self._calibration = predictor, config, calibration

    def process(self, synced: SyncedMessages[Any]) -> Processed:
        """Messages -> Frame -> Occupancy.

        Raises:
            ConversionError: the scan cannot be read.
            CalibrationError: the rig is not known (yet).
            FrameError: no points are left, or the network cannot use the frame, for example because none lies in the grid.
        """
        began = time.perf_counter()
        rig = self._calibration.rig(synced.scan.header.frame_id, synced.stamp, pose=self._predictor.num_frames > 1)
        assembled = assemble(synced, rig, self._config)
        converted = (time.perf_counter() - began) * 1e3
        occupancy = self._predictor.predict(assembled.frame, rig.grid_frame)
        occupancy = replace(occupancy, timings={"convert": converted, **occupancy.timings})
        image_frames = tuple("" if message is None else message.header.frame_id for message in synced.images)
        return Processed(
            assembled.frame,
            occupancy,
            assembled.dropped_points,
            assembled.masked,
            image_frames,
            assembled.problems,
            rig.pose_problem,
            assembled.notes,
        )


def count_losses(processed: Processed, statistics: Statistics) -> None:
    """Add what a frame had to go without to the counters, as /diagnostics and the summary of an offline run show them."""
    for reason, points in processed.dropped_points.items():
        statistics.count("points", reason, points)
    for table, cells in processed.occupancy.overflow.items():
        statistics.count("overflow", table, cells)
    for name, reason in processed.masked.items():
        statistics.count("masked", f"{name}:{reason}")
    if processed.occupancy.short_history:
        statistics.count("history", processed.occupancy.short_history)
