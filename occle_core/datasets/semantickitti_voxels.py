# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI's voxel files, voxels/NNNNNN.{bin,label,invalid,occluded}, on the nominal volume whichever release wrote them.

Cell [x, y, z] of the nominal volume has flat index x * 8192 + y * 32 + z. Release 1.1 (since 2020-08-24) stores it there. The
voxelizer of release 1.0 wrote every flat index one too late (PRBonn/semantic-kitti-api issue 49), so that the topmost cell of a
column lies in the lowest of the next one, and the volume's last cell is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets.files import read_array, read_bits, warn_once
from occle_core.geometry.grid import SEMANTICKITTI

Release = Literal["1.0", "1.1"]

FITS = 0.5
"""Least agreement of a voxel file with its own scan: 0.99 and more in either release, read as what it is."""

FEW = 20
"""Least number of cells from which a file's columns can be judged."""

CLEAR = 0.01
"""Least difference between the two readings' agreements that decides."""

LOOKED_AT = 5
"""Frames whose voxel files are examined to find the release."""


class VoxelFolder:
    """The voxel files of a sequence.

    Args:
        folder: where they are; it may be missing.
        stems: the frames' file names without suffix.
        points: scan (N, 3 or more) of a frame in the LiDAR frame, metres; the files are compared with it.
    """

    def __init__(self, folder: Path, stems: Sequence[str], points: Callable[[int], NDArray[np.floating]]) -> None:
        self.folder, self._stems, self._points = folder, stems, points

    def file(self, i: int, suffix: str) -> Path:
        """Path of the file of frame `i`, which may be missing."""
        return self.folder / f"{self._stems[i]}.{suffix}"

    def raw_labels(self, i: int) -> NDArray[np.uint16]:
        """(2097152,) raw class ids of `.label`, in the file's order.

        Raises:
            DatasetError: missing or broken file.
        """
        return read_array(self.file(i, "label"), np.uint16, count=SEMANTICKITTI.size)

    def bits(self, i: int, suffix: str) -> NDArray[np.bool_]:
        """(2097152,) bool of `.bin`, `.invalid` or `.occluded`, in the file's order.

        Raises:
            DatasetError: missing or broken file.
        """
        return read_bits(self.file(i, suffix), SEMANTICKITTI.size)

    def placed(self, flat: NDArray[Any], lost: Any) -> NDArray[Any]:
        """A file's values on the nominal volume, (256, 256, 32); `lost` where the release has none."""
        return on_nominal_grid(flat, self.release, lost)

    @cached_property
    def release(self) -> Release:
        """The release that wrote the files; what is odd about them is logged once."""
        release, agreement = release_of(self._with_scans())
        if release is None:
            labels = (self.raw_labels(i) for i in self._having("label"))
            release = next(filter(None, map(release_by_columns, labels)), None)
        if release == "1.0":
            warn_once(f"{self.folder} is of SemanticKITTI's release 1.0, which wrote every cell one index too late; this is undone")
        if agreement < FITS:
            warn_once(
                f"{self.folder} does not fit its scans: {agreement:.0%} of the cells agree. It is read as release "
                f"{release or '1.1'}; see whether both are of one recording"
            )
        return release or "1.1"

    def _with_scans(self) -> Iterator[tuple[NDArray[np.bool_], bool, NDArray[np.floating]]]:
        scanned = self._having("bin")
        for i in scanned or self._having("label"):
            yield self.bits(i, "bin") if scanned else self.raw_labels(i) > 0, bool(scanned), self._points(i)

    def _having(self, suffix: str) -> list[int]:
        there = (i for i in range(len(self._stems)) if self.file(i, suffix).exists())
        return list(itertools.islice(there, LOOKED_AT))


def release_of(files: Iterable[tuple[NDArray[np.bool_], bool, NDArray[np.floating]]]) -> tuple[Release | None, float]:
    """The release that wrote a sequence's voxel files, by the first of them whose cells agree better with its scan in one reading.

    Args:
        files: occupied cells (flat, in the file's order), whether they are all of the scan's (`.bin`) or include others
            (`.label`), and the scan (N, 3 or more) in the LiDAR frame, metres.

    Returns:
        the release, None where no file decides, and the better reading's agreement in the file that decided (else the last one's).
    """
    best = 0.0
    for recorded, only_the_scan, points in files:
        scan = SEMANTICKITTI.occupied(points).ravel()
        agreement = {
            "1.1": _agreement(recorded, scan, only_the_scan),
            "1.0": _agreement(on_nominal_grid(recorded, "1.0", lost=False).ravel(), scan, only_the_scan),
        }
        best = max(agreement.values())
        if best >= FITS and abs(agreement["1.1"] - agreement["1.0"]) >= CLEAR:
            return ("1.1" if agreement["1.1"] == best else "1.0"), best
    return None, best


def release_by_columns(raw: NDArray[np.integer]) -> Release | None:
    """The release of a `.label` file by its columns alone, for where the scan does not decide; None where they do not either.

    What release 1.0 put into the lowest cell of a column belongs above the highest of the column before, and is mostly of its
    class (1.00 of such cells in simulated streets; 0.00 to 0.17 in release 1.1's order, where the two are 6 m apart).

    Args:
        raw: (2097152,) class ids in the file's order, 0 where nothing is.
    """
    height = SEMANTICKITTI.shape[2]
    lowest, before = raw[height::height], raw[height - 1 : -1 : height]
    occupied = lowest > 0
    if occupied.sum() < FEW:
        return None
    alike = float((lowest[occupied] == before[occupied]).mean())
    return "1.0" if alike > 0.7 else "1.1" if alike < 0.4 else None


def on_nominal_grid(flat: NDArray[Any], release: Release, lost: Any) -> NDArray[Any]:
    """A voxel file's values on the nominal volume.

    Args:
        flat: (2097152,) in the file's order.
        release: which one wrote them.
        lost: value of the volume's last cell, which release 1.0 does not have.

    Returns:
        (256, 256, 32).
    """
    if release == "1.0":
        flat = np.append(flat[1:], flat.dtype.type(lost))
    return flat.reshape(SEMANTICKITTI.shape)


def _agreement(recorded: NDArray[np.bool_], scan: NDArray[np.bool_], only_the_scan: bool) -> float:
    """IoU of the recorded cells with the scan's or, where they include others, the share of the scan's cells among them."""
    whole = (recorded | scan).sum() if only_the_scan else scan.sum()
    return float((recorded & scan).sum()) / max(1, int(whole))
