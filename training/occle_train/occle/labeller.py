# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Aligned pseudo-labels of a data set's images: MSeg's label maps from disk or a transformers segmenter, with Grounded SAM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.files import read_image
from occle_core.taxonomy import IGNORE
from occle_train.occle.alignment import Alignment
from occle_train.pseudo_labels.hub import transformers
from occle_train.pseudo_labels.label_folder import Labels, confidence_file, label_file, read_gray
from occle_train.pseudo_labels.universal_names import universal_name

Universal = Callable[[Dataset, int, str], Labels]
"""Universal ids (H, W) uint8, 255 unlabelled, and confidences (H, W) uint8 of a data set's frame and camera."""


class AlignedLabeller:
    """A `Labeller` for `write_missing`: both models' answers merged.

    Args:
        specific: the dataset-specific model.
        open_vocabulary: a labeller whose prompts are the alignment's, such as GroundedSam; None leaves the unaligned classes out
            (the paper's "w/o align." ablation).
        alignment: the class table.
    """

    def __init__(
        self, specific: Universal, open_vocabulary: Callable[[Dataset, int, str], Labels] | None, alignment: Alignment
    ) -> None:
        self.specific, self.open_vocabulary, self.alignment = specific, open_vocabulary, alignment

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """Class ids and confidences of an image; a pixel's confidence is that of the model whose label it has."""
        universal, confidence = self.specific(dataset, i, camera)
        primary = self.alignment.primary(universal)
        if self.open_vocabulary is None:
            return primary, np.where(primary == IGNORE, np.uint8(0), confidence)
        found, sure = self.open_vocabulary(dataset, i, camera)
        merged = self.alignment.merge(primary, found)
        confidence = np.where(merged == primary, confidence, sure)
        return merged, np.where(merged == IGNORE, np.uint8(0), confidence)


class UniversalLabelFolder:
    """MSeg label maps on disk: ROOT/SCENE/CAMERA/STEM.png with universal ids, and STEM.confidence.png where there are confidences.

    Args:
        root: the folder.

    Raises:
        DatasetError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DatasetError(f"{root} is no folder of MSeg label maps; expected are ROOT/SCENE/CAMERA/STEM.png of universal ids")
        self.root = root

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The label map of a data set's image.

        Raises:
            DatasetError: missing or broken files, or ids beyond MSeg's 194 classes.
        """
        file = label_file(self.root, dataset, i, camera)
        universal = read_gray(file)
        wrong = np.unique(universal[(universal >= 194) & (universal != IGNORE)])
        if len(wrong):
            raise DatasetError(
                f"{file} holds {wrong.tolist()}, which are no ids of MSeg's universal taxonomy (0..193; 255 unlabelled)"
            )
        beside = confidence_file(file)
        return universal, read_gray(beside) if beside.exists() else np.full(universal.shape, 255, np.uint8)


class TransformersSegmenter:
    """Any semantic segmentation model of transformers whose class names are universal ones, or are renamed to them.

    Args:
        name: model name or local folder.
        alignment: knows the universal names.
        rename: the model's class name -> universal name, where they differ; those of Cityscapes and ADE20K are known.
        device: torch's name of the device.

    Attributes:
        unused: the model's classes that stand for nothing.
        lacking: universal names of the table for which no class of the model stands.

    Raises:
        ValueError: none of the model's classes is known.
        OSError: nothing can be loaded from `name`.
    """

    def __init__(self, name: str, alignment: Alignment, rename: dict[str, str] | None = None, device: str = "cpu") -> None:
        library: Any = transformers()
        self.model = library.AutoModelForSemanticSegmentation.from_pretrained(name).to(device).eval()
        self.mean, self.std, self.size = _normalisation(library, name)
        self.device = device
        ids = {universal: number for number, universal in alignment.names.items()}
        classes = {
            int(number): str(label).strip().lower().replace(" ", "_") for number, label in self.model.config.id2label.items()
        }
        found = {number: universal_name(label, ids, rename or {}) for number, label in classes.items()}
        self.table = np.array(
            [IGNORE if (label := found[number]) is None else ids[label] for number in range(len(found))], np.uint8
        )
        self.unused = [classes[number] for number in range(len(found)) if found[number] is None]
        self.lacking = sorted(set(ids) - set(found.values()) - {None})
        if (self.table == IGNORE).all():
            raise ValueError(
                f"none of {name}'s classes is a universal one: {', '.join(self.unused[:20])}; give --rename CLASS=UNIVERSAL"
            )

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The universal labels of a data set's image."""
        file = dataset.image_file(i, camera)
        if file is None:
            raise DatasetError(f"{dataset.kind} {dataset.name} has no camera {camera}")
        return self.label(read_image(file))

    @torch.inference_mode()
    def label(self, image: NDArray[np.uint8]) -> Labels:
        """Universal ids and confidences of an image (H, W, 3) uint8 RGB."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        pixels = F.interpolate(pixels, self.size, mode="bilinear", antialias=True) if self.size else pixels
        pixels = (pixels - torch.tensor(self.mean).view(3, 1, 1)) / torch.tensor(self.std).view(3, 1, 1)
        logits = self.model(pixel_values=pixels.to(self.device)).logits.float().cpu()
        probability = F.interpolate(logits, image.shape[:2], mode="bilinear").softmax(1)[0]
        confidence, label = probability.max(0)
        universal = self.table[label.numpy()]
        return universal, np.where(universal == IGNORE, 0, np.round(confidence.numpy() * 255)).astype(np.uint8)


def _normalisation(library: Any, name: str) -> tuple[list[float], list[float], tuple[int, int] | None]:
    """Mean, standard deviation and the size (H, W) that images are resized to, from the model's preprocessor file.

    The preprocessor's own code may need torchvision, which does not go with this torch.
    """
    settings, _ = library.ImageProcessingMixin.get_image_processor_dict(name)
    size = settings.get("size") or {}
    mean, std = settings.get("image_mean", [0.485, 0.456, 0.406]), settings.get("image_std", [0.229, 0.224, 0.225])
    return mean, std, (int(size["height"]), int(size["width"])) if {"height", "width"} <= set(size) else None
