# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Alignment of pseudo-labels (OccLE, Sec. 3.2 and Appendix B).

A dataset-specific segmenter's classes are mapped to the task's and completed by an open-vocabulary segmenter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.pseudo_labels.prompts import Prompts, parse_prompts, read_data

UNLABELLED = "unlabelled"


@dataclass(frozen=True, eq=False)
class Alignment:
    """A class table.

    Args:
        table: (256,) uint8, universal id -> class id; 255 where it has none.
        prompts: phrases for the open-vocabulary model and the classes they stand for.
        over: class of the open-vocabulary model -> (256,) bool, the labels over which it wins.
        names: universal id -> its name, for checks and for segmenters that know names.
    """

    table: NDArray[np.uint8]
    prompts: Prompts
    over: Mapping[int, NDArray[np.bool_]]
    names: Mapping[int, str]

    def primary(self, universal: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) universal ids -> (H, W) class ids, 255 unlabelled."""
        return np.asarray(self.table[universal], np.uint8)

    def merge(self, primary: NDArray[np.uint8], auxiliary: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Both models' labels as one (Appendix B's Boolean operations).

        A pixel takes the open-vocabulary label where there is one, that label is of an unaligned class, and the class's table
        says that it wins over the primary label; everywhere else it keeps the primary label.

        Args:
            primary: (H, W) class ids of the dataset-specific model, 255 unlabelled.
            auxiliary: (H, W) class ids of the open-vocabulary model, 255 where it found nothing.

        Returns:
            (H, W) uint8.
        """
        if primary.shape != auxiliary.shape:
            raise ValueError(f"label images of different sizes cannot be merged: {primary.shape} and {auxiliary.shape}")
        merged = primary.copy()
        for label, over in self.over.items():
            merged[(auxiliary == label) & over[primary]] = label
        return merged


def load_alignment(taxonomy: Taxonomy) -> Alignment:
    """The shipped table of a taxonomy: training/data/occle_alignment.

    Raises:
        KeyError: there is none, or it names a class that the taxonomy lacks.
        ValueError: a universal id stands for two classes, or a class is both aligned and asked for.
    """
    return parse_alignment(read_data("occle_alignment", taxonomy), taxonomy)


def parse_alignment(data: Mapping[str, Mapping[str, Mapping[str, list[str]]]], taxonomy: Taxonomy) -> Alignment:
    """A table from the contents of its file; raises like `load_alignment`."""
    table = np.full(256, _id(str(data["rest"]), taxonomy), np.uint8)
    table[IGNORE] = IGNORE
    names: dict[int, str] = {}
    for name, ids in data["dataset_specific"].items():
        for universal, universal_name in ids.items():
            number = int(universal)
            if number in names:
                raise ValueError(f"{taxonomy.name}: universal id {number} ({universal_name}) stands for two classes")
            table[number] = taxonomy.id(name)
            names[number] = str(universal_name)
    wanted = data["open_vocabulary"]
    both = sorted(set(wanted) & set(data["dataset_specific"]))
    if both:
        raise ValueError(f"{taxonomy.name}: {', '.join(both)} cannot be aligned and be asked for as well")
    prompts = parse_prompts({name: entry["phrases"] for name, entry in wanted.items()}, taxonomy)
    over = {}
    for name, entry in wanted.items():
        wins = np.zeros(256, np.bool_)
        wins[[_id(other, taxonomy) for other in entry["over"]]] = True
        over[taxonomy.id(name)] = wins
    return Alignment(table, prompts, over, names)


def _id(name: str, taxonomy: Taxonomy) -> int:
    return IGNORE if name == UNLABELLED else taxonomy.id(name)
