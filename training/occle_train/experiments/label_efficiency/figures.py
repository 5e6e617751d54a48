# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of what the recipe learnt, like Figs. 3 and 4 of the MinkOcc paper (Sze et al.), and its curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.pictures import legend, panel, top_view
from occle_core.taxonomy import Taxonomy
from occle_train.data.views import batch_view
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.rendering.head import SphereHead
from occle_train.streets.writing.data_files import write_image

SKY = (255, 255, 255)
"""Colour of pixels without a label."""


def draw_views(
    file: Path,
    network: MinkOcc,
    head: SphereHead,
    samples: RecipeSamples,
    items: Sequence[int],
    taxonomy: Taxonomy,
    cameras: int = 3,
) -> None:
    """Fig. 3: per frame and camera the image, its pseudo-label, and the predicted voxels rendered, after and before the shader.

    Where there is no pseudo-label the renderings are shown all the same.

    Args:
        file: the picture to write.
        network, head: in evaluation mode, on the CPU.
        samples: where the frames and their pseudo-labels come from; no voxel label is read.
        items: frame numbers.
        taxonomy: the classes.
        cameras: how many per frame, from the first on.
    """
    rows, seen = [], []
    for item in items:
        frame = samples.frame(item)
        views = samples.views(item, frame.cameras)[:cameras]
        with torch.inference_mode():
            prediction = network(prepare(frame, samples.grid, samples.network))
            # Nothing is known about the cells: what is predicted is rendered.
            unknown = torch.full((1, *samples.grid.shape), 255, dtype=torch.uint8)
            shown = [batch_view(view, 0, frame.T_grid_lidar) for view in views]
            plain, shaded = head(prediction.classes, unknown, shown, prediction.features)
        for number, view in enumerate(views):
            image = frame.images[number]
            pictures = [("image", np.asarray(image))] if image is not None else []
            labels = {"pseudo-label": view.labels, "rendered and shaded": _ids(shaded[number])}
            if head.channels is None:  # rendered features are no classes before the shader
                labels["rendered"] = _ids(plain[number])
            seen += list(labels.values())
            rows.append(pictures + [(title, _coloured(ids, taxonomy)) for title, ids in labels.items()])
    _write(file, panel(rows, 1600, legend(seen, taxonomy, 1600)))


def draw_maps(file: Path, columns: Mapping[str, Sequence[NDArray[np.uint8]]], grid: VoxelGrid, taxonomy: Taxonomy) -> None:
    """Fig. 4: the same frames (rows) predicted by several networks (columns), from above.

    Args:
        file: the picture to write.
        columns: title -> a label grid (X, Y, Z) per frame.
        grid: of all of them.
        taxonomy: their classes.
    """
    frames = zip(*columns.values())
    rows = [[(title, top_view(labels, grid, taxonomy, 400)) for title, labels in zip(columns, frame)] for frame in frames]
    every = [labels for column in columns.values() for labels in column]
    _write(file, panel(rows, 1600, legend(every, taxonomy, 1600)))


def draw_curves(file: Path, logs: Mapping[str, Path], columns: Sequence[str], window: int = 50) -> None:
    """A plot per column of log.csv with a line per run, means of `window` steps; runs without the column are left out."""
    figure, axes = plt.subplots(1, len(columns), figsize=(5 * len(columns), 4), dpi=100, squeeze=False)
    for place, column in zip(axes[0], columns):
        for name, log in logs.items():
            with log.open(newline="") as text:
                values = [float(row[column]) for row in csv.DictReader(text) if column in row]
            if values:
                mean = np.convolve(values, np.ones(min(window, len(values))) / min(window, len(values)), "valid")
                place.plot(np.arange(len(mean)) + len(values) - len(mean), mean, label=name)
        place.set(xlabel="step", title=f"{column} loss", yscale="log")
        place.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)


def _ids(logits: torch.Tensor) -> NDArray[np.uint8]:
    """(C, H, W) -> (H, W); 255 where nothing was rendered, so that all classes are alike."""
    solid = logits[logits[:, 0, 0] > -5e3]
    empty = (solid.max(0).values - solid.min(0).values) == 0
    return np.asarray(torch.where(empty, 255, logits.argmax(0)).numpy(), np.uint8)


def _coloured(ids: NDArray[np.uint8], taxonomy: Taxonomy) -> NDArray[np.uint8]:
    table = np.full((256, 3), SKY, np.uint8)
    table[: taxonomy.num_classes] = taxonomy.colors
    return np.asarray(table[ids])


def _write(file: Path, picture: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_image(file, picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
