# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Class labels of the images' pixels: pseudo-labels from a folder, or the semantic images that the simulator writes."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.taxonomy import IGNORE
from occle_train.pseudo_labels.degrade import semantic_file
from occle_train.pseudo_labels.label_folder import LabelFolder, read_gray


class PixelLabels:
    """Reads labels of images.

    Args:
        folder: label images; None reads the simulator's.
        simulated: whether those can be read: their ids are those of the layout's own classes.
    """

    def __init__(self, folder: LabelFolder | None, simulated: bool = True) -> None:
        self.folder, self._simulated = folder, simulated

    @property
    def source(self) -> str:
        """What made the labels, in words."""
        return "semantic images of the simulator" if self.folder is None else f"labels by {self.folder.source}"

    def __call__(
        self, dataset: Dataset, i: int, camera: str, size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        """Class ids (H, W), 255 unlabelled, and confidences in 0..1, at (width, height); None where an image has none."""
        if dataset.image_file(i, camera) is None:
            return None
        if self.folder is not None:
            return self.folder.read(dataset, i, camera, size) if self.folder.has(dataset, i, camera) else None
        if not self._simulated:
            return None
        try:
            file = semantic_file(dataset, i, camera)
        except DatasetError:
            return None
        if not file.is_file():
            return None
        labels = np.asarray(cv2.resize(read_gray(file), size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        return labels, (labels != IGNORE).astype(np.float32)

    def any(self, datasets: Iterable[Dataset]) -> bool:
        """Whether the first frame of one of the data sets has a labelled image."""
        return any(self(data, 0, camera, (8, 8)) is not None for data in datasets if len(data) for camera in data.camera_names)
