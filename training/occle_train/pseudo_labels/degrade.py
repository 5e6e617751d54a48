# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Perfect semantic images made as bad as real pseudo-labels are, so that the recipe can be tried without foundation models.

What goes wrong follows what MinkOcc reports of Grounding DINO + SAM (Sze et al., Sec. VI-A and Fig. 3): outlines are off by
some pixels, small objects and whole stretches of road or sidewalk stay unlabelled, segments get the wrong class, and a
detection's confidence shows only partly which. Every connected segment of a class is treated like one detection.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from occle_core.config import Config
from occle_core.datasets import Dataset, DatasetError
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.pseudo_labels.label_folder import Labels, read_gray
from occle_train.pseudo_labels.prompts import read_data

CELL = 48
"""Along an image's width there are this many independent displacements of outlines."""

Confusions = dict[int, tuple[NDArray[np.uint8], NDArray[np.float64]]]


class DegradeConfig(Config):
    """Error rates and confidences of the degraded labels."""

    outline_noise: float = Field(0.002, ge=0, description="standard deviation of outlines' displacement, share of the image width")
    miss_prob: float = Field(0.05, ge=0, le=1, description="probability that a large segment stays unlabelled")
    small_area: float = Field(
        0.0003, ge=0, description="area, share of the image, at which segments are lost with probability 1 / e"
    )
    confusion_scale: float = Field(1.0, ge=0, le=1, description="factor on the probabilities of the taxonomy's table of confusions")
    confidence_right: float = Field(0.65, gt=0, lt=1, description="mean confidence of a segment of the right class")
    confidence_wrong: float = Field(0.45, gt=0, lt=1, description="mean confidence of a segment of the wrong class")
    confidence_concentration: float = Field(
        12.0, gt=0, description="sum of the parameters of the confidences' beta distributions; larger is narrower"
    )
    confidence_threshold: float = Field(0.3, ge=0, lt=1, description="least confidence, as of a detector's threshold")


def degrade(labels: NDArray[np.uint8], confusions: Confusions, config: DegradeConfig, rng: Generator) -> Labels:
    """Worse labels with confidences.

    Args:
        labels: (H, W) class ids, 255 where there is no class (such as sky).
        confusions: see `load_confusions`.
        config: how bad.
        rng: decides; the same generator state gives the same labels.

    Returns:
        class ids (H, W) uint8, 255 unlabelled, and confidences (H, W) uint8, 0 where unlabelled; a segment has one confidence.
    """
    bent = _bend(labels, config.outline_noise * labels.shape[1], rng)
    result, confidence = np.full(labels.shape, IGNORE, np.uint8), np.zeros(labels.shape, np.uint8)
    for label in np.unique(bent[bent != IGNORE]).tolist():
        count, segment, stats, _ = cv2.connectedComponentsWithStats((bent == label).astype(np.uint8), connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA] / labels.size
        found = rng.random(count - 1) >= config.miss_prob + (1 - config.miss_prob) * np.exp(-areas / max(config.small_area, 1e-12))
        called = _called(label, count - 1, confusions, config.confusion_scale, rng)
        mean = np.where(called == label, config.confidence_right, config.confidence_wrong)
        sure = rng.beta(mean * config.confidence_concentration, (1 - mean) * config.confidence_concentration).clip(
            config.confidence_threshold, 1
        )
        # Entry 0 of both tables is what is not of this class.
        inside = np.concatenate([[False], found])[segment]
        result[inside] = np.concatenate([[IGNORE], called]).astype(np.uint8)[segment][inside]
        confidence[inside] = np.concatenate([[0], np.round(sure * 255)]).astype(np.uint8)[segment][inside]
    return result, confidence


def load_confusions(taxonomy: Taxonomy) -> Confusions:
    """Per class id: the ids it is called (its own among them) and their probabilities, from the taxonomy's table.

    Raises:
        KeyError: there is no table, or it names a class that the taxonomy lacks.
        ValueError: a class's probabilities are negative or exceed 1 together.
    """
    table: dict[str, dict[str, float]] = read_data("confusions", taxonomy)
    result = {}
    for name, others in table.items():
        chances = np.array([1 - sum(others.values()), *others.values()])
        if (chances < 0).any():
            raise ValueError(f"confusions of {taxonomy.name}: {name} has probabilities {others}, which are no shares of 1")
        result[taxonomy.id(name)] = np.array([taxonomy.id(other) for other in (name, *others)], np.uint8), chances
    return result


class DegradedLabeller:
    """A `Labeller` for `write_missing`: the simulator's semantic images, degraded. The seed and an image's name decide how."""

    def __init__(self, taxonomy: Taxonomy, config: DegradeConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.confusions = load_confusions(taxonomy)
        self.source: dict[str, Any] = {"degraded": config.model_dump(), "seed": seed}

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The labels of a data set's image."""
        file = semantic_file(dataset, i, camera)
        address = sha256(f"{self.seed}/{dataset.name}/{camera}/{file.stem}".encode()).digest()
        return degrade(read_gray(file), self.confusions, self.config, np.random.default_rng(int.from_bytes(address[:8], "big")))


def semantic_file(dataset: Dataset, i: int, camera: str) -> Path:
    """Path of the simulator's semantic image: semantic_2/ beside image_2/, semantic/ beside samples/.

    Raises:
        DatasetError: no such camera, or a data set that was not simulated.
    """
    image = dataset.image_file(i, camera)
    if image is None:
        raise DatasetError(f"{dataset.kind} {dataset.name} has no camera {camera}; it has {', '.join(dataset.camera_names)}")
    folders = {"semantickitti": image.parent.parent / "semantic_2", "nuscenes": image.parent.parent.parent / "semantic" / camera}
    folder = folders.get(dataset.kind)
    if folder is None or not folder.is_dir():
        raise DatasetError(f"{dataset.kind} {dataset.name} has no semantic images beside {image}; only simulated streets have them")
    return folder / f"{image.stem}.png"


def _bend(labels: NDArray[np.uint8], pixels: float, rng: Generator) -> NDArray[np.uint8]:
    """Labels fetched from smoothly displaced places."""
    height, width = labels.shape
    coarse = rng.normal(0, pixels, (2, max(2, round(CELL * height / width)), CELL)).astype(np.float32)
    du, dv = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in coarse)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    bent = cv2.remap(labels, u + du, v + dv, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, np.uint8)


def _called(label: int, count: int, confusions: Confusions, factor: float, rng: Generator) -> NDArray[np.uint8]:
    """(count,) what the segments of a class are called."""
    if label not in confusions:
        return np.full(count, label, np.uint8)
    names, chances = confusions[label]
    scaled = chances * factor
    scaled[0] = 1 - scaled[1:].sum()
    return np.asarray(rng.choice(names, count, p=scaled), np.uint8)
