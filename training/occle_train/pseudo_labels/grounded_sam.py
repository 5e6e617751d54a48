# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""2D pseudo-labels from vision foundation models: Grounding DINO's boxes, SAM's masks (MinkOcc, Sze et al., Sec. III and IV-D)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.files import read_image
from occle_core.taxonomy import IGNORE
from occle_train.pseudo_labels.detect import GroundingDino
from occle_train.pseudo_labels.label_folder import Labels
from occle_train.pseudo_labels.prompts import Prompts
from occle_train.pseudo_labels.segment import load_segmenter


class GroundedSam:
    """Labels images; the models are loaded once. A `Labeller` for `write_missing`.

    Args:
        detector: Grounding DINO, such as IDEA-Research/grounding-dino-tiny, or a local folder.
        segmenter: SAM or SAM 2, such as facebook/sam-vit-base or facebook/sam2.1-hiera-tiny, or a local folder.
        prompts: what is looked for.
        device: torch's name of the device.
        threshold: least confidence of a detection.

    Raises:
        ModuleNotFoundError: transformers is not installed.
        ValueError, OSError: a model cannot be loaded, or is of another kind.
    """

    def __init__(self, detector: str, segmenter: str, prompts: Prompts, device: str = "cpu", threshold: float = 0.3) -> None:
        self.detect = GroundingDino(detector, prompts.phrases, device, threshold)
        self.segment = load_segmenter(segmenter, device)
        self.classes = np.array(prompts.classes, np.uint8)
        self.source: dict[str, Any] = {
            "detector": detector,
            "segmenter": segmenter,
            "threshold": threshold,
            "prompts": dict(zip(prompts.phrases, prompts.classes)),
        }

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The labels of a data set's image."""
        file = dataset.image_file(i, camera)
        if file is None:
            raise DatasetError(f"{dataset.kind} {dataset.name} has no camera {camera}")
        return self.label(read_image(file))

    def label(self, image: NDArray[np.uint8]) -> Labels:
        """Class ids and confidences of an image (H, W, 3) uint8 RGB; confidences are the detector's."""
        boxes = self.detect(image)
        return paint_masks(self.segment.masks(image, boxes.corners), self.classes[boxes.phrases], boxes.scores, image.shape[:2])


def paint_masks(
    masks: Iterable[NDArray[np.bool_]], classes: NDArray[np.uint8], scores: NDArray[np.float32], shape: tuple[int, ...]
) -> Labels:
    """Masks (H, W) of detections, which have classes (N,) and scores (N,) in 0..1, as one label image; the highest score wins."""
    labels, best = np.full(shape, IGNORE, np.uint8), np.zeros(shape, np.float32)
    for mask, label, score in zip(masks, classes, scores):
        wins = mask & (score > best)
        labels[wins], best[wins] = label, score
    return labels, np.where(labels == IGNORE, 0, np.round(best * 255)).astype(np.uint8)
