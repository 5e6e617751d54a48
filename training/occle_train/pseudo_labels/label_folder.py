# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of label images: ROOT/SCENE/CAMERA/STEM.png, STEM being the name of the image's file.

A label image is 8 bit, one channel, and holds class ids; 255 is unlabelled. STEM.confidence.png beside it holds the confidence of
every pixel, 0..255; without one every label counts fully, so that label images from any source can be put into such a folder.
ROOT/manifest.json, where there is one, names the taxonomy and what made the labels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from occle_core.atomic_file import atomic_write, write_json, writing_into
from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.files import read_json, readable
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.worker_pool import ALONE, Workers, as_given, mapped

PNG, PALETTE = b"\x89PNG\r\n\x1a\n", 3
"""A PNG file's first bytes, and its colour type for indices into a palette."""
FORMAT = 1
MANIFEST = "manifest.json"
Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Class ids (H, W) uint8, 255 unlabelled, and confidences (H, W) uint8, 0..255."""
Labeller = Callable[[Dataset, int, str], Labels]
"""Makes the labels of a data set's frame and camera."""


class LoadedOnce:
    """A `Labeller` whose models are loaded at the first image, by each worker for itself.

    Args:
        load: gives the labeller; it is pickled, what it gave is not.
    """

    def __init__(self, load: Callable[[], Labeller]) -> None:
        self._load = load
        self._loaded: Labeller | None = None

    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The labels of a data set's image."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded(dataset, i, camera)

    def __reduce__(self) -> tuple[Any, ...]:
        return LoadedOnce, (self._load,)


class LabelFolder:
    """The label images of a folder.

    Args:
        root: the folder.
        taxonomy: what its ids must mean.

    Attributes:
        source: what made the labels, from the manifest.

    Raises:
        DatasetError: no such folder, or its manifest is of another format or taxonomy.
    """

    def __init__(self, root: Path, taxonomy: Taxonomy) -> None:
        if not root.is_dir():
            raise DatasetError(f"{root} is no folder of label images; make them with occle-train label")
        self.root, self.taxonomy = root, taxonomy
        manifest: dict[str, Any] = (
            read_json(root / MANIFEST) if (root / MANIFEST).exists() else {"format": FORMAT, "taxonomy": taxonomy.name}
        )
        if not isinstance(manifest, dict):
            raise DatasetError(f"{root / MANIFEST} is no manifest of label images; delete it, or use another folder")
        if manifest.get("format") != FORMAT or manifest.get("taxonomy") != taxonomy.name:
            raise DatasetError(
                f"{root / MANIFEST}: labels of {manifest.get('taxonomy')}, format {manifest.get('format')}; "
                f"needed are {taxonomy.name}, format {FORMAT}"
            )
        self.source: dict[str, Any] = manifest.get("source") or {"folder": root.name}

    def has(self, dataset: Dataset, i: int, camera: str) -> bool:
        """True if there are labels for the image; False for an image that the camera dropped."""
        return dataset.image_file(i, camera) is not None and label_file(self.root, dataset, i, camera).is_file()

    def bytes_of(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """The labels of an image as a `Labeller` gives them."""
        labels, confidence = self.read(dataset, i, camera)
        return labels, np.round(confidence * 255).astype(np.uint8)

    def read(
        self, dataset: Dataset, i: int, camera: str, size: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The labels of an image.

        Args:
            dataset: the sequence that the image is from.
            i: frame number.
            camera: one of the data set's `camera_names`.
            size: (width, height) to bring them to, by the nearest pixel; None keeps theirs.

        Returns:
            class ids (H, W) uint8, 255 unlabelled (free space cannot be seen: its id counts as unlabelled too), and
            confidences (H, W) float32 in 0..1, 0 where unlabelled.

        Raises:
            DatasetError: missing or broken files, ids that are no classes, or a confidence of another size.
        """
        file = label_file(self.root, dataset, i, camera)
        labels = read_gray(file)
        beside = confidence_file(file)
        confidence = read_gray(beside) if beside.exists() else np.full(labels.shape, 255, np.uint8)
        if confidence.shape != labels.shape:
            raise DatasetError(f"{beside} is {confidence.shape[::-1]}, but its labels are {labels.shape[::-1]} pixels")
        wrong = np.unique(labels[(labels >= self.taxonomy.num_classes) & (labels != IGNORE)])
        if len(wrong):
            raise DatasetError(f"{file} holds {wrong.tolist()}, which are no ids of {self.taxonomy.name}; 255 is unlabelled")
        if size is not None:
            labels, confidence = (_resized(image, size) for image in (labels, confidence))
        labels = np.where(labels == self.taxonomy.free, np.uint8(IGNORE), labels)
        return labels, np.where(labels == IGNORE, np.float32(0), confidence.astype(np.float32) / np.float32(255))


def write_missing(
    root: Path,
    datasets: Sequence[Dataset],
    labeller: Labeller,
    taxonomy: Taxonomy,
    source: dict[str, Any],
    on_progress: Callable[[str, int], None] = lambda scene, i: None,
    workers: Workers = ALONE,
) -> tuple[int, int]:
    """Label every image of the data sets that has no labels yet, one frame of a worker at a time.

    A file appears under its name when it is complete, the confidence before the labels: an interrupted run is resumed where it was.

    Args:
        root: folder of the labels; made if it is not there.
        datasets: sequences with images.
        labeller: makes the labels; several workers are each given it pickled.
        taxonomy: what the ids mean.
        source: what makes the labels, for the manifest; plain JSON.
        on_progress: called after every frame with scene and number.
        workers: where the work runs; the labels do not depend on it.

    Returns:
        how many images were labelled, and how many had labels.

    Raises:
        DatasetError: `root` holds labels of another source, or an image cannot be read.
    """
    _check_manifest(root, {"format": FORMAT, "taxonomy": taxonomy.name, "source": source})
    written = skipped = 0
    with writing_into(root):
        frames = [(number, i) for number, dataset in enumerate(datasets) for i in range(len(dataset))]

        def name(frame: tuple[int, int]) -> str:
            return f"{datasets[frame[0]].name}, frame {frame[1]}"

        with mapped(_label_frame, frames, as_given, (root, datasets, labeller), workers, name) as results:
            for (number, i), counts in zip(frames, results):
                written, skipped = written + counts[0], skipped + counts[1]
                on_progress(datasets[number].name, i)
    return written, skipped


def _label_frame(job: tuple[Path, Sequence[Dataset], Labeller], frame: tuple[int, int]) -> tuple[int, int]:
    """Label a frame's images. Returns how many were labelled, and how many had labels."""
    root, datasets, labeller = job
    dataset, i = datasets[frame[0]], frame[1]
    written = skipped = 0
    for camera in dataset.camera_names:
        if dataset.image_file(i, camera) is None:
            continue  # the camera dropped this frame
        file = label_file(root, dataset, i, camera)
        if file.is_file():
            skipped += 1
            continue
        labels, confidence = labeller(dataset, i, camera)
        _write_png(confidence_file(file), confidence)
        _write_png(file, labels)
        written += 1
    return written, skipped


def label_file(root: Path, dataset: Dataset, i: int, camera: str) -> Path:
    """Path of an image's labels.

    Raises:
        DatasetError: the data set has no such camera.
    """
    image = dataset.image_file(i, camera)
    if image is None:
        where = f"{dataset.kind} {dataset.name}, frame {i}"
        raise DatasetError(f"{where}: no image of camera {camera}; the cameras are {', '.join(dataset.camera_names)}")
    return root / dataset.name / camera / f"{image.stem}.png"


def confidence_file(labels: Path) -> Path:
    """Path of a label image's confidences."""
    return labels.with_name(f"{labels.stem}.confidence.png")


def _check_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or make sure that it is the same."""
    file = root / MANIFEST
    # As it will be read: tuples become lists.
    manifest = json.loads(json.dumps(manifest))
    if file.exists():
        if read_json(file) != manifest:
            raise DatasetError(
                f"{file}: these labels were made in another way; use another folder, or delete this one to start afresh"
            )
        return
    write_json(file, manifest)


def _write_png(file: Path, image: NDArray[np.uint8]) -> None:
    with atomic_write(file) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def read_gray(file: Path) -> NDArray[np.uint8]:
    """A label or confidence image, (H, W) uint8: grey values as they are stored, whatever their depth, or a palette's indices.

    Raises:
        DatasetError: missing, broken, of several channels, or with values above 255.
    """
    with readable(file):
        content = file.read_bytes()
    is_png = content.startswith(PNG)
    depth, colour = content[24:26] if is_png and len(content) > 26 else (8, 0)
    if is_png and colour == PALETTE:
        return _palette_indices(file, content)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DatasetError(f"{file} cannot be decoded as an image; label images are PNG files of one channel")
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or image.max() > 255:
        raise DatasetError(
            f"{file} is {image.dtype} {image.shape} with values up to {image.max()}; label images have one channel, 0 to 255"
        )
    # OpenCV spreads 1, 2 and 4 bits over 0..255.
    return (image // (255 // (2**depth - 1)) if depth < 8 else image).astype(np.uint8)


def _palette_indices(file: Path, content: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image, np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"{file} cannot be decoded as a palette PNG: {error}") from error


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
