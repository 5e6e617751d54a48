# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Weak targets of a whole training set, made before the training; loaders make what is missing otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from occle_core.atomic_file import writing_into
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.worker_pool import ALONE, Workers, as_given, consecutive_parts, mapped


def write_weak_targets(
    samples: RecipeSamples, on_progress: Callable[[int], None] = lambda count: None, workers: Workers = ALONE
) -> tuple[int, int]:
    """Make the weak targets that are not there yet; a stopped run is resumed.

    Args:
        samples: the training set; where it keeps nothing in memory, workers need little.
        on_progress: called with the number of frames that were made, or were there, since the last call.
        workers: where the work runs; the targets do not depend on it.

    Returns:
        how many were made, and how many were there.

    Raises:
        DatasetError: labels or files of frames are missing.
    """
    wanted = samples.weak_items()
    missing = [item for item in wanted if not samples.target_file(item).is_file()]
    on_progress(len(wanted) - len(missing))
    parts = consecutive_parts(missing, workers)

    def name(part: Sequence[int]) -> str:
        return samples.describe(part[0]) + (" and after" if len(part) > 1 else "")

    with writing_into(samples.cache), mapped(_make, parts, as_given, samples, workers, name) as made:
        for part, _ in zip(parts, made):
            on_progress(len(part))
    return len(missing), len(wanted) - len(missing)


def _make(samples: RecipeSamples, items: Sequence[int]) -> None:
    for item in items:
        samples.weak_target(item)
