# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What nav2's StaticLayer does with grids and updates, in a rolling costmap whose frame is the grid's.

Written after the rules of nav2_costmap_2d/plugins/static_layer.cpp (August 2026): the first grid is taken at once; later ones are
buffered until the next cycle and then replace everything; an update is written in the cells of the layer as it is, unless it does
not fit in; values are interpreted with track_unknown_space and trinary_costmap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LETHAL, FREE, NO_INFORMATION = 254, 0, 255


class StaticLayer:
    """The layer; `refused` counts updates that it ignored."""

    def __init__(self) -> None:
        self.costs = np.zeros((0, 0), np.uint8)  # [y, x]
        self.origin, self.resolution, self.frame = (0.0, 0.0), 1.0, ""
        self.refused = 0
        self._buffer: Any = None
        self._received = False

    def incoming_map(self, message: Any) -> None:
        if self._received:
            self._buffer = message
        else:
            self._received = True
            self._process(message)

    def incoming_update(self, message: Any) -> None:
        height, width = self.costs.shape
        fits = message.x >= 0 and message.y >= 0 and message.x + message.width <= width and message.y + message.height <= height
        if not fits or message.header.frame_id != self.frame:
            self.refused += 1
            return
        rows = _costs(message.data).reshape(message.height, message.width)
        self.costs[message.y : message.y + message.height, message.x : message.x + message.width] = rows

    def cycle(self) -> None:
        """updateBounds of a costmap's cycle."""
        if self._buffer is not None:
            self._process(self._buffer)
            self._buffer = None

    def cost_at(self, x: float, y: float) -> int | None:
        """As worldToMap and getCost; None outside, where the costmap keeps what it had."""
        column, row = (int((v - o) / self.resolution) for v, o in zip((x, y), self.origin))
        inside = x >= self.origin[0] and y >= self.origin[1] and row < self.costs.shape[0] and column < self.costs.shape[1]
        return int(self.costs[row, column]) if inside else None

    def _process(self, message: Any) -> None:
        info = message.info
        self.origin, self.resolution = (info.origin.position.x, info.origin.position.y), info.resolution
        self.costs = _costs(message.data).reshape(info.height, info.width).copy()
        self.frame = message.header.frame_id


def _costs(data: Any) -> np.ndarray:
    values = np.array(data, np.int8).view(np.uint8)
    return np.where(values == 255, NO_INFORMATION, np.where(values >= 100, LETHAL, FREE)).astype(np.uint8)
