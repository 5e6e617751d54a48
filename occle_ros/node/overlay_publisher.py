"""~/overlay/<camera>: the camera images with the voxels drawn into them, in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from occle_core.pictures import overlay
from occle_ros.config.groups import OverlayConfig
from occle_ros.messages.images import message_from_image
from occle_ros.node.throttle import RateLimiter
from occle_ros.node.worker import Worker
from occle_ros.pipeline.pipeline import Processed
from occle_ros.pipeline.statistics import Statistics


@dataclass(frozen=True)
class _Wanted:
    processed: Processed
    cameras: tuple[str, ...]
    alpha: float


class OverlayPublisher:
    """Draws and publishes what is wanted; a picture takes some 100 ms, which must not delay the next frame.

    Args:
        publishers: by camera, in the order of the frames' images.
        statistics: counts what was published.
        failed: called with a message when a picture cannot be drawn.
    """

    def __init__(self, publishers: Mapping[str, Any], statistics: Statistics, failed: Callable[[str], None]) -> None:
        self.publishers = publishers
        self._statistics, self._failed = statistics, failed
        self._limits = {name: RateLimiter() for name in publishers}
        self._worker: Worker[_Wanted] = Worker(self._draw, self._on_error, "overlays")

    def offer(self, processed: Processed, config: OverlayConfig) -> None:
        """Let the cameras be drawn that have an image, a subscriber, and whose time has come."""
        images = dict(zip(self.publishers, processed.frame.images))
        wanted = [name for name, publisher in self.publishers.items() if publisher.get_subscription_count()]
        due = [name for name in wanted if images[name] is not None and self._limits[name].allows(config.max_rate_hz)]
        if due:
            self._worker.submit(_Wanted(processed, tuple(due), config.alpha))

    def close(self, timeout: float) -> None:
        """End the thread."""
        self._worker.stop(timeout)

    def _draw(self, wanted: _Wanted) -> None:
        frame, occupancy = wanted.processed.frame, wanted.processed.occupancy
        for number, name in enumerate(self.publishers):
            image = frame.images[number]
            if name not in wanted.cameras or image is None:
                continue
            picture = overlay(
                image, frame.cameras[number], occupancy.labels, occupancy.grid, occupancy.taxonomy, frame.T_grid_lidar, wanted.alpha
            )
            self.publishers[name].publish(message_from_image(picture, occupancy.stamp, wanted.processed.image_frames[number]))
            self._statistics.count("published", f"overlay/{name}")

    def _on_error(self, wanted: _Wanted, error: Exception) -> None:
        self._failed(f"the overlay of scan {wanted.processed.occupancy.stamp / 1e9:.3f} cannot be drawn: {error}")
