# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Split of scenes into labelled and unlabelled ones: the labelled share alpha of MinkOcc's warm start (Sze et al., Sec. IV-A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from occle_core.datasets import Dataset

LabelUnit = Literal["scene", "frame"]


@dataclass(frozen=True)
class LabelSplit:
    """Which frames of several data sets were drawn as labelled.

    Args:
        datasets: scenes, in order.
        names: of the scenes, each once.
        unit: what was drawn.
        drawn: names of the drawn scenes, or "SCENE/NUMBER" of the drawn frames.
    """

    datasets: Sequence[Dataset]
    names: tuple[str, ...]
    unit: LabelUnit
    drawn: frozenset[str]

    @classmethod
    def draw(cls, datasets: Sequence[Dataset], unit: LabelUnit, fraction: float, seed: int, truth_alone: bool) -> LabelSplit:
        """Draw scenes, or frames that have a truth; see `draw_labelled`.

        Args:
            datasets: scenes; one that has the name of an earlier one is given a number.
            unit: what is drawn.
            fraction: share of them.
            seed: of the ranks.
            truth_alone: draw scenes that have a truth alone; recordings beside them have none.
        """
        names = [data.name for data in datasets]
        names = [f"{name}#{names[:k].count(name) + 1}" if name in names[:k] else name for k, name in enumerate(names)]
        truths = [(name, data.numbers[i]) for name, data in zip(names, datasets) for i in range(len(data)) if data.has_truth(i)]
        if unit == "frame":
            wanted = [f"{name}/{number}" for name, number in truths]
        else:
            wanted = list(dict.fromkeys(name for name, _ in truths)) if truth_alone else names
        return cls(datasets, tuple(names), unit, frozenset(draw_labelled(wanted, fraction, seed)))

    def is_drawn_scene(self, number: int) -> bool:
        """Whether the scene was drawn as a whole."""
        return self.unit == "scene" and self.names[number] in self.drawn

    def labelled(self, number: int) -> set[int]:
        """Frames of a scene that were drawn, or are of a drawn scene, and have a truth."""
        data, name = self.datasets[number], self.names[number]
        return {i for i in range(len(data)) if self._name(name, data.numbers[i]) in self.drawn and data.has_truth(i)}

    def _name(self, scene: str, number: int) -> str:
        return scene if self.unit == "scene" else f"{scene}/{number}"


def draw_labelled(scenes: Sequence[str], fraction: float, seed: int) -> list[str]:
    """The scenes whose voxel labels may be used; all frames of the others are unlabelled.

    A scene is drawn or not as a whole: its neighbouring frames show the same street. Every scene has a rank that depends on its
    name and the seed alone, and the lowest ranks are drawn. So the order of `scenes` does not matter, a larger fraction keeps
    what a smaller one drew, and scenes that join later take no part in how the old ones are ranked among each other.

    Args:
        scenes: names, each once.
        fraction: share of the scenes, 0..1. Any above 0 draws at least one scene.
        seed: of the ranks.

    Returns:
        the drawn names, sorted.

    Raises:
        ValueError: the fraction lies outside 0..1, or a name comes twice.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the labelled share of scenes must lie in 0..1, not {fraction}")
    if len(set(scenes)) != len(scenes):
        twice = sorted({name for name in scenes if list(scenes).count(name) > 1})
        raise ValueError(f"scenes must have different names to be drawn by name; twice: {', '.join(twice)}")
    count = min(len(scenes), max(1, round(fraction * len(scenes)))) if fraction > 0 else 0
    return sorted(sorted(scenes, key=lambda name: _rank(name, seed))[:count])


def _rank(name: str, seed: int) -> str:
    return sha256(f"{seed}/{name}".encode()).hexdigest()
