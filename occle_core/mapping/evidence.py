# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What every cell of the map has gathered: log-odds of occupancy and votes for its class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.config import UNITS, MapConfig
from occle_core.native import mapping
from occle_core.native.library import loaded
from occle_core.taxonomy import IGNORE

Bytes = NDArray[np.int8]
Labels = NDArray[np.uint8]
MAX_VOTES = 12.0
"""Confident frames (votes) that a class can be ahead of all others: as many frames of another class replace it."""


class Evidence:
    """Arrays of one byte per cell and quantity, in ring order, and their update rules.

    A class is voted for as in Boyer and Moore's majority vote (1981): a vote for the cell's class adds to its lead, a vote for
    another one takes from it, and a class whose lead is used up is replaced.

    Args:
        config: constants.
        dynamic: (256,) bool, ids of classes whose objects move.
        ground: (256,) bool, ids of classes to stand on.

    Attributes:
        log_odds: (X, Y, Z) int8, of occupancy, in steps of 1 / UNITS; 0 is unknown.
        labels: (X, Y, Z) uint8, 255 where no network has named a class yet.
        votes: (X, Y, Z) uint8, the class's lead, in steps of 1 / UNITS of a fully confident frame.
    """

    def __init__(self, config: MapConfig, dynamic: NDArray[np.bool_], ground: NDArray[np.bool_]) -> None:
        self.log_odds: Bytes = np.zeros(config.shape, np.int8)
        self.labels: Labels = np.full(config.shape, IGNORE, np.uint8)
        self.votes = np.zeros(config.shape, np.uint8)
        self._dynamic = np.zeros(config.shape, np.bool_)  # dynamic[labels], kept: looking it up for all cells takes longer
        self._is_dynamic, self._is_ground = dynamic, ground
        self._limits = -round(config.free_limit * UNITS), round(config.occupied_limit * UNITS)
        self._clearing, self._sure_ground = round(config.dynamic_clearing * UNITS), round(config.sure_ground * UNITS)
        lowest, highest = self._limits
        memories = ((config.dynamic_memory, highest), (config.static_memory, highest), (config.free_memory, -lowest))
        self._memories = [_Memory(*memory) for memory in memories]

    def restore(self, log_odds: Bytes, labels: Labels, votes: NDArray[np.uint8]) -> None:
        """Replace all cells; arrays (X, Y, Z) in ring order."""
        self.log_odds, self.labels, self.votes = log_odds, labels, votes
        self._dynamic = self._is_dynamic[labels]

    def clear(self, part: tuple[slice, ...] = (slice(None),)) -> None:
        """Make a part of the storage unknown."""
        self.log_odds[part] = 0
        self.labels[part] = IGNORE
        self.votes[part] = 0
        self._dynamic[part] = False

    def add(self, evidence: Bytes, seconds: float) -> None:
        """Evidence of one frame. Cells that it says nothing about fade towards unknown, evenly in time.

        Args:
            evidence: (X, Y, Z) ring order, steps of 1 / UNITS, 0 where the frame says nothing. It may be changed.
            seconds: since the frame before.
        """
        fading = [memory.steps(seconds) for memory in self._memories]
        if (library := loaded()) is not None:
            mapping.add_evidence(library, evidence, self._dynamic, fading, self._clearing, self._limits, self.log_odds)
            return
        self._forget(evidence == 0, *fading)
        flat = evidence.reshape(-1)
        left = np.flatnonzero(self._dynamic & (evidence < 0))
        flat[left] = np.minimum(flat[left], -self._clearing)
        # A cell's and a frame's, which is up to 62 by its scan and 62 by its network, leave the 8 bits.
        total = np.add(self.log_odds, evidence, dtype=np.int16)
        np.clip(total, *self._limits, out=self.log_odds, casting="unsafe")

    def ground(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Occupied cells of the ground, as flat numbers in ring order.

        Returns:
            (N,) those with nothing occupied right below, so nothing else carries the column; (M,) those above `sure_ground`.
        """
        held, heights = self.log_odds.reshape(-1), self.log_odds.shape[2]
        cells = np.flatnonzero(held > 0)
        cells = cells[self._is_ground[self.labels.reshape(-1)[cells]]]
        lowest = cells == cells // heights * heights
        below = cells - 1 + heights * lowest  # under the window's lowest layer lies its highest: free
        return np.asarray(cells[held[below] <= 0]), np.asarray(cells[held[cells] > self._sure_ground])

    def vote(self, cells: NDArray[np.intp], labels: Labels, confidence: NDArray[np.uint8]) -> None:
        """Classes that one frame's network names, before its evidence is added. Cells that were not occupied have no lead left.

        Where a class that moves gives way to one that does not, the object has left: what it gathered is no evidence for the other.

        Args:
            cells: (N,) different flat numbers in ring order.
            labels: (N,) class ids.
            confidence: (N,) uint8, their probabilities in steps of 1 / UNITS.
        """
        most = round(MAX_VOTES * UNITS)
        if (library := loaded()) is not None:
            held_arrays = self.labels, self.votes, self._dynamic
            mapping.vote_classes(library, cells, labels, confidence, self._is_dynamic, most, self.log_odds, *held_arrays)
            return
        weight = confidence.astype(np.int16)
        lead = np.where(self.log_odds.reshape(-1)[cells] > 0, self.votes.reshape(-1)[cells], 0).astype(np.int16)
        held = self.labels.reshape(-1)[cells]
        lead += np.where(labels == held, weight, -weight)
        replaced = (lead < 0) | (held == IGNORE)
        np.abs(lead, out=lead)
        self.votes.reshape(-1)[cells] = np.minimum(lead, most)
        changed, new = cells[replaced], labels[replaced]
        left = changed[self._dynamic.reshape(-1)[changed] & ~self._is_dynamic[new]]
        self.log_odds.reshape(-1)[left] = np.minimum(self.log_odds.reshape(-1)[left], 0)
        self.labels.reshape(-1)[changed] = new
        self._dynamic.reshape(-1)[changed] = self._is_dynamic[new]

    def _forget(self, unobserved: NDArray[np.bool_], dynamic: int, static: int, free: int) -> None:
        """Numbers of steps by which unobserved cells fade."""
        held = self.log_odds
        if dynamic:
            fading = np.flatnonzero(unobserved & self._dynamic & (held > 0))
            held.reshape(-1)[fading] = np.maximum(held.reshape(-1)[fading] - dynamic, 0)
        if static:
            np.copyto(held, np.maximum(held - np.int8(static), 0), where=unobserved & (held > 0) & ~self._dynamic)
        if free:
            np.copyto(held, np.minimum(held + np.int8(free), 0), where=unobserved & (held < 0))


class _Memory:
    """Time as whole steps of the log-odds: `limit` of them in `seconds`."""

    def __init__(self, seconds: float, limit: int) -> None:
        self._rate, self._limit = limit / seconds, limit
        self._owed = 0.0

    def steps(self, seconds: float) -> int:
        self._owed += seconds * self._rate
        whole = int(self._owed)
        self._owed -= whole
        return min(whole, self._limit)
