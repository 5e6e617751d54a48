# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Simulated pseudo-labels of a segmenter whose classes are not the task's: OccLE's "w/o align." (Sec. 3.2, Table 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from occle_core.datasets import Dataset
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.label_folder import Labels

CITYSCAPES = {
    "trunk": "vegetation",
    "parking": "road",
    "other-ground": "sidewalk",
    "other-vehicle": None,
    "bicyclist": None,
    "motorcyclist": None,
}
"""What a segmenter with the 19 Cityscapes classes (Cordts et al.) says to SemanticKITTI's classes that it lacks: the class that it
sees in their place, or None where its own class (bus, train, rider) has no namesake and stays unlabelled."""


class UnalignedLabeller:
    """A `Labeller` for `write_missing`: the degraded labels of simulated streets in a Cityscapes segmenter's classes.

    Its mistakes are those of `DegradedLabeller` with the same seed: the classes are all that differs.

    Args:
        taxonomy: SemanticKITTI's classes.
        config, seed: see `DegradedLabeller`.
    """

    def __init__(self, taxonomy: Taxonomy, config: DegradeConfig, seed: int) -> None:
        self.aligned = DegradedLabeller(taxonomy, config, seed)
        self.source: dict[str, Any] = {**self.aligned.source, "unaligned": CITYSCAPES}
        self.table = np.arange(256, dtype=np.uint8)
        for name, seen in CITYSCAPES.items():
            self.table[taxonomy.id(name)] = IGNORE if seen is None else taxonomy.id(seen)

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The labels of a data set's image."""
        labels, confidence = self.aligned(dataset, i, camera)
        raw = self.table[labels]
        return raw, np.where(raw == IGNORE, np.uint8(0), confidence)
