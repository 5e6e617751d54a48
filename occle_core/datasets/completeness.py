# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Completeness check of data sets, before a long run: they come in parts, and their tables list the files of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from occle_core.datasets.base import Dataset, DatasetError, HasSweeps

NAMED = 3
"""Files that an error names."""


def require_frames(frames: Iterable[tuple[Dataset, int]]) -> None:
    """Make sure that the scans and images of frames are there; for arguments that come more than once see `require_files`.

    Raises:
        DatasetError: see `require_files`.
    """
    require_files((dataset.name, file) for dataset, i in frames for file in dataset.files(i))


def require_sweeps(frames: Iterable[tuple[Dataset, int]], count: int) -> None:
    """Make sure that the `count` scans before each frame are there, where a data set has some between its frames.

    Raises:
        DatasetError: see `require_files`.
    """
    swept = ((dataset, dataset.name, i) for dataset, i in frames if isinstance(dataset, HasSweeps))
    require_files((name, file) for dataset, name, i in swept for file in dataset.sweep_files(i, count))


def require_files(files: Iterable[tuple[str, Path]]) -> None:
    """Make sure that files are there and not empty.

    Args:
        files: sequence and file; they may come more than once.

    Raises:
        DatasetError: some are missing or empty; the message counts them by sequence and names the first.
    """
    lacking = {file: sequence for sequence, file in files if not _is_there(file)}
    if not lacking:
        return
    counts = Counter(lacking.values())
    sequences = ", ".join(f"{name} ({count})" for name, count in counts.most_common(10))
    more = f" and {len(counts) - 10} more" if len(counts) > 10 else ""
    first = ", ".join(str(file) for file in list(lacking)[:NAMED])
    raise DatasetError(
        f"{len(lacking)} files are missing or empty, of sequences {sequences}{more}; the first: {first}. Download them, or leave "
        "these sequences out"
    )


def _is_there(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
