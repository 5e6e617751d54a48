# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Split of scenes into labelled and unlabelled ones: the labelled share alpha of MinkOcc's warm start (Sze et al., Sec. IV-A)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


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
