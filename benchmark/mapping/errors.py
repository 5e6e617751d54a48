# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the errors of occupied cells consist of: cells missed and cells invented, each with its cause."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.observation import grown
from occle_core.taxonomy import IGNORE

Labels = NDArray[np.uint8]
CAUSES = {
    "single": "missed, and the single frame has it",
    "beside": "missed, an occupied cell of its own right beside it",
    "away": "missed, none beside it: the network does not see it",
    "surface": "invented, right beside an occupied cell of the truth",
    "nothing": "invented, away from any",
}
"""Of every error, the first that fits, and its words."""


class ErrorCauses:
    """Counts over frames; the share is of the cells that are occupied in truth."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._occupied: Counter[str] = Counter()

    def update(self, name: str, labels: Labels, target: Labels, single: Labels | None = None) -> None:
        """Add one frame.

        Args:
            name: of the row.
            labels: (X, Y, Z) class ids, 0 free or unknown.
            target: (X, Y, Z) class ids, 255 not known.
            single: (X, Y, Z) the single frame's at the same cells; None where `labels` is the single frame's.
        """
        known = target != IGNORE
        there, said = known & (target > 0), labels > 0
        missed, invented = there & ~said, known & (target == 0) & said
        found = self._counts.setdefault(name, Counter())
        if single is not None:
            found["single"] += int((missed & (single > 0)).sum())
            missed &= single == 0
        near, solid = grown(said), grown(there)
        parts = missed & near, missed & ~near, invented & solid, invented & ~solid
        for cause, part in zip(("beside", "away", "surface", "nothing"), parts):
            found[cause] += int(part.sum())
        self._occupied[name] += int(there.sum())

    def result(self, name: str) -> dict[str, float]:
        """Percent of the truth's occupied cells, per cause."""
        return {cause: 100 * self._counts[name][cause] / max(self._occupied[name], 1) for cause in CAUSES}
