"""Files that are missing, before a long run needs them: data sets come in parts, and their tables list all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from occle_core.datasets.base import Dataset, DatasetError

NAMED = 3
"""Files that an error names."""


def require_files(frames: Iterable[tuple[Dataset, int]]) -> None:
    """Make sure that scans and images of frames are there.

    Args:
        frames: data sets with the numbers of the frames that will be read; they may come more than once.

    Raises:
        DatasetError: some are missing or empty; the message counts them by sequence and names the first.
    """
    lacking: dict[Path, str] = {}
    for dataset, i in frames:
        lacking.update((file, dataset.name) for file in dataset.files(i) if not _is_there(file))
    if not lacking:
        return
    counts = Counter(lacking.values())
    sequences = ", ".join(f"{name} ({count})" for name, count in counts.most_common(10))
    more = f" and {len(counts) - 10} more" if len(counts) > 10 else ""
    files = ", ".join(str(file) for file in list(lacking)[:NAMED])
    raise DatasetError(
        f"{len(lacking)} files are missing or empty, of sequences {sequences}{more}; the first: {files}. Download them, or leave "
        "these sequences out"
    )


def _is_there(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
