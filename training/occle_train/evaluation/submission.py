# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI's submission for semantic scene completion: what the benchmark's server scores on its hidden test set."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.completeness import require_frames
from occle_core.datasets.semantickitti import SemanticKittiDataset
from occle_core.frame import FrameError
from occle_core.geometry.grid import SEMANTICKITTI
from occle_core.predictor import Predictor
from occle_core.taxonomy import Taxonomy

TEST_SEQUENCES = tuple(str(number) for number in range(11, 22))


def raw_ids(taxonomy: Taxonomy) -> NDArray[np.uint16]:
    """(num_classes,) the lowest raw voxel id of each class, which the benchmark maps back to it."""
    classes = taxonomy.from_raw(np.arange(65536, dtype=np.uint16))
    return np.array([int(np.argmax(classes == label)) for label in range(taxonomy.num_classes)], np.uint16)


def write_submission(
    file: Path,
    predictor: Predictor,
    datasets: Sequence[Dataset],
    on_progress: Callable[[str, int], None] = lambda name, i: None,
) -> int:
    """Predict every frame that has voxels/NNNNNN.bin, and write sequences/NN/predictions/NNNNNN.label into a zip file.

    A `.label` file holds 256 x 256 x 32 raw ids, uint16, x slowest and z fastest, on SemanticKITTI's grid; cells of a coarser
    network are repeated. A frame of which no point lies in the grid is written as free.

    Args:
        file: ends in .zip.
        predictor: a bundle of SemanticKITTI's classes that fills its volume.
        datasets: sequences; the server wants all of 11 to 21.
        on_progress: called before each frame that is written.

    Returns:
        how many frames were written.

    Raises:
        ValueError: another ending, or a bundle of other classes or another volume.
        DatasetError: no frame has a .bin of voxels, files are missing, or the layout is another one.
    """
    if file.suffix != ".zip":
        raise ValueError(f"{file}: the server takes a zip file; give --out NAME.zip")
    grid = predictor.grid
    factor = round(grid.resolution / SEMANTICKITTI.resolution)
    if predictor.taxonomy.name != "semantickitti" or factor < 1 or grid.finer(factor) != SEMANTICKITTI:
        raise ValueError(
            f"{predictor.bundle_id} predicts {predictor.taxonomy.name} on {grid}; needed are SemanticKITTI's classes and volume"
        )
    raw, written = raw_ids(predictor.taxonomy), 0
    wanted = {number: _scored(dataset) for number, dataset in enumerate(datasets)}
    if not any(wanted.values()):
        raise DatasetError("no frame has voxels/NNNNNN.bin, which say what the server scores; download the benchmark's voxel data")
    require_frames((datasets[number], i) for number, frames in wanted.items() for i in predictor.reads(datasets[number], frames))
    with atomic_write(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sequences/", "")
        for number, dataset in enumerate(datasets):
            folder = f"sequences/{dataset.name}/"
            for entry in (folder, f"{folder}predictions/"):
                archive.writestr(entry, "")
            for i in sorted(wanted[number]):
                on_progress(dataset.name, i)
                labels = np.full(grid.shape, predictor.taxonomy.free, np.uint8)
                with suppress(FrameError):
                    labels = predictor.predict_recorded(dataset, i).labels
                fine = labels.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
                archive.writestr(f"{folder}predictions/{dataset.numbers[i]:06d}.label", raw[fine].astype("<u2").tobytes())
                written += 1
    return written


def missing_sequences(datasets: Sequence[Dataset]) -> list[str]:
    """Test sequences without which the server takes no submission."""
    return sorted(set(TEST_SEQUENCES) - {dataset.name for dataset in datasets})


def _scored(dataset: Dataset) -> set[int]:
    if not isinstance(dataset, SemanticKittiDataset):
        raise DatasetError(f"{dataset.kind} {dataset.name}: a submission needs SemanticKITTI's layout")
    return {i for i in range(len(dataset)) if dataset.has_voxels(i)}
