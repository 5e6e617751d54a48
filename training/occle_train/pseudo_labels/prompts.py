# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Prompts of an open-vocabulary detector: phrases, and the class that each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from occle_core.taxonomy import IGNORE, Taxonomy


@dataclass(frozen=True)
class Prompts:
    """Phrases and the class ids they stand for (255: found, but of no class, such as sky).

    Args:
        phrases: lower case, without full stops.
        classes: as many ids.
    """

    phrases: tuple[str, ...]
    classes: tuple[int, ...]


def load_prompts(taxonomy: Taxonomy) -> Prompts:
    """The phrases that are shipped for a taxonomy.

    Raises:
        KeyError: there is no file of phrases, or it names a class that the taxonomy lacks.
        ValueError: a phrase comes twice, is not in lower case, or holds a full stop, which separates phrases.
    """
    return parse_prompts(read_data("prompts", taxonomy), taxonomy)


def parse_prompts(data: dict[str, Sequence[str]], taxonomy: Taxonomy) -> Prompts:
    """Phrases from a mapping of class name (or "unlabelled") to phrases; raises like `load_prompts`."""
    phrases, classes = [], []
    for name, wanted in data.items():
        label = IGNORE if name == "unlabelled" else taxonomy.id(name)
        for phrase in wanted:
            if phrase in phrases or phrase != phrase.strip().lower() or "." in phrase or not phrase:
                raise ValueError(f"phrase {phrase!r} of {name}: phrases are lower case, without full stops, and each is there once")
            phrases.append(phrase)
            classes.append(label)
    return Prompts(tuple(phrases), tuple(classes))


def read_data(folder: str, taxonomy: Taxonomy) -> Any:
    """pseudo_labels/data/FOLDER/TAXONOMY.yaml.

    Raises:
        KeyError: there is no such file; the message lists those that are there.
    """
    place = files("occle_train.pseudo_labels") / "data" / folder
    file = place / f"{taxonomy.name}.yaml"
    if not file.is_file():
        known = sorted(entry.name.removesuffix(".yaml") for entry in place.iterdir())
        raise KeyError(f"no {folder} for {taxonomy.name}; there are {', '.join(known)}")
    return yaml.safe_load(file.read_text("utf-8"))
