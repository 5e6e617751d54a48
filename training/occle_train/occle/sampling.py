# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Interval sampling of the frames that keep their voxel annotations (OccLE, Sec. 4.1.1)."""

from __future__ import annotations

from fractions import Fraction


def interval_sample(count: int, share: float) -> list[int]:
    """Frames at even intervals, in the middle of each.

    Args:
        count: frames of the training set, sequence after sequence.
        share: of them that keep their annotations, above 0 and at most 1.

    Returns:
        round(count * share) ascending frame numbers, at least one of a set that is not empty.

    Raises:
        ValueError: the share lies outside 0..1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the annotated share must be above 0 and at most 1, not {share}")
    wanted = min(count, max(1, round(count * share)))
    # Exact: a float step lands on the wrong side of a frame in long sets.
    return [int(Fraction(count * (2 * number + 1), 2 * wanted)) for number in range(wanted)]
