# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pseudo-labels with random mistakes: OccLE's "w/ 2 % Noise" and "w/ 6 % Noise" (Table D.3)."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from occle_core.datasets import Dataset
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.pseudo_labels.label_folder import Labeller, Labels


class NoisyLabeller:
    """A `Labeller` for `write_missing`: another one's labels, of which a share of the pixels is of a random class.

    Args:
        labels: the other labeller.
        source: what it is.
        taxonomy: the classes; free is never drawn.
        ratio: share of the labelled pixels.
        seed: of the pixels and classes.
    """

    def __init__(self, labels: Labeller, source: dict[str, Any], taxonomy: Taxonomy, ratio: float, seed: int) -> None:
        self.labels, self.ratio, self.seed = labels, ratio, seed
        self.classes = np.array([number for number in range(taxonomy.num_classes) if number != taxonomy.free], np.uint8)
        self.source: dict[str, Any] = {"of": source, "noise": ratio, "seed": seed}

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The labels of a data set's image; confidences stay."""
        labels, confidence = self.labels(dataset, i, camera)
        rng = np.random.default_rng((self.seed, crc32(f"{dataset.name}/{camera}".encode()), dataset.numbers[i]))
        wrong = (rng.random(labels.shape) < self.ratio) & (labels != IGNORE)
        return np.where(wrong, rng.choice(self.classes, labels.shape), labels).astype(np.uint8), confidence
