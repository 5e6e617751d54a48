# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Publisher of ~/overlay/<camera>, the camera images with the voxels projected into them, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from occle_core.pictures import overlay
from occle_ros.config.groups import OverlayConfig
from occle_ros.messages.images import message_from_image
from occle_ros.node.throttle import RateLimiter
from occle_ros.node.worker import Worker
from occle_ros.pipeline.pipeline import ProcessedFrame
from occle_ros.pipeline.statistics import Statistics


@dataclass(frozen=True)
class _Job:
    processed: ProcessedFrame
    cameras: tuple[str, ...]
    alpha: float


class OverlayPublisher:
    """Publisher of overlays in a worker thread: an overlay takes some 100 ms, which must not delay the next frame.

    Args:
        publishers: by camera, in the order of the frames' images.
        statistics: counts the published overlays.
        log_error: called with a message when an overlay cannot be drawn.
    """

    def __init__(self, publishers: Mapping[str, Any], statistics: Statistics, log_error: Callable[[str], None]) -> None:
        self.publishers = publishers
        self._statistics, self._log_error = statistics, log_error
        self._limits = {name: RateLimiter() for name in publishers}
        self._worker: Worker[_Job] = Worker(self._draw, self._on_error, "overlays")

    def offer(self, processed: ProcessedFrame, config: OverlayConfig) -> None:
        """Queue the overlays of cameras that have an image and a subscriber and whose rate allows one."""
        images = dict(zip(self.publishers, processed.assembled.frame.images))
        wanted = [name for name, publisher in self.publishers.items() if publisher.get_subscription_count()]
        due = [name for name in wanted if images[name] is not None and self._limits[name].allows(config.max_rate_hz)]
        if due:
            self._worker.submit(_Job(processed, tuple(due), config.alpha))

    def close(self, timeout: float) -> None:
        """Stop the thread."""
        self._worker.stop(timeout)

    def _draw(self, job: _Job) -> None:
        assembled, occupancy = job.processed.assembled, job.processed.occupancy
        frame = assembled.frame
        for number, name in enumerate(self.publishers):
            image = frame.images[number]
            if name not in job.cameras or image is None:
                continue
            picture = overlay(
                image, frame.cameras[number], occupancy.labels, occupancy.grid, occupancy.taxonomy, frame.T_grid_lidar, job.alpha
            )
            self.publishers[name].publish(message_from_image(picture, occupancy.stamp, assembled.image_frames[number]))
            self._statistics.count("published", f"overlay/{name}")

    def _on_error(self, job: _Job, error: Exception) -> None:
        self._log_error(f"the overlay of scan {job.processed.occupancy.stamp / 1e9:.3f} cannot be drawn: {error}")
