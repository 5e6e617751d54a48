# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What a viewer shows of one frame, and the rolling map added to a stream of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from occle_core.errors import OccleError
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.mapping import MapConfig, MapSnapshot, RollingMap
from occle_core.occupancy import Occupancy
from occle_core.pictures.overlay import viewing_order


class ViewError(OccleError, ValueError):
    """A source that cannot be shown; the message says why and what would help."""


@dataclass(frozen=True, eq=False)
class ViewFrame:
    """One frame for a viewer.

    Args:
        number: of the frame in its recording.
        occupancy: the prediction, with its timings.
        frame: scan and poses; its points may be empty.
        images: (H, W, 3) uint8 RGB by camera name.
        cameras: by camera name; cameras without an image and images without a camera may occur.
        truth: (X, Y, Z) class ids on the occupancy's grid, 255 unknown, or None.
        map: the rolling map after this frame, or None.
    """

    number: int
    occupancy: Occupancy
    frame: Frame
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    truth: NDArray[np.uint8] | None = None
    map: MapSnapshot | None = None

    @classmethod
    def of(
        cls, number: int, frame: Frame, camera_names: Iterable[str], occupancy: Occupancy, truth: NDArray[np.uint8] | None = None
    ) -> ViewFrame:
        """From a network's input and output; `camera_names` are in the order of the frame's images.

        The images are then in the order in which they are shown: ahead from left to right, then behind.
        """
        rig = zip(camera_names, frame.images, frame.cameras)
        ordered = sorted(rig, key=lambda entry: viewing_order(entry[2], frame.T_grid_lidar))
        images = {name: image for name, image, _ in ordered if image is not None}
        return cls(number, occupancy, frame, images, {name: camera for name, _, camera in ordered}, truth)

    @property
    def T_world_grid(self) -> NDArray[np.float64] | None:
        """(4, 4), maps the occupancy's grid frame into a world that stands still; None where that is not known."""
        pose = self.frame.T_world_lidar
        return None if pose is None else pose @ np.linalg.inv(self.frame.T_grid_lidar)


def add_map(frames: Iterable[ViewFrame]) -> Iterator[ViewFrame]:
    """The frames with the rolling map after each; frames without a usable pose pass as they are."""
    rolling: RollingMap | None = None
    for shown in frames:
        rolling = rolling or RollingMap(shown.occupancy.taxonomy, MapConfig.of_cells(shown.occupancy.grid.resolution))
        update = rolling.update(shown.occupancy, shown.frame, shown.T_world_grid)
        yield replace(shown, map=rolling.snapshot()) if update.accepted else shown
