# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page: one HTML file with figures, poses, the worst frames large and all frames small."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.datasets import Dataset, DatasetError
from occle_core.geometry.grid import VoxelGrid
from occle_core.pictures import perspective, top_view
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.pseudo_labels.cell_folder import CellFolder, Cells
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.pseudo_labels.lift import point_labels
from occle_train.review.statistics import FrameStatistics, frame_statistics, worst_frames

WORST = 10
THUMBNAIL, LARGE = (288, 150), (880, 420)
"""Image width and size of the view from above, pixels: of all frames, and of the worst."""
MOST = 18_000_000
"""Characters of all small pictures; of more frames than fit, every second, third, ... is shown small."""
PAIRS = 12
"""Pairs of classes that are listed."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #23262b; max-width: 1200px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #d5d8dc }
h3 { font-size: 1em; margin: 1em 0 0 }
table { border-collapse: collapse } td, th { padding: .15em .8em; border-bottom: 1px solid #e5e7ea; text-align: right }
td:first-child, th:first-child, .bars { text-align: left } .bars { width: 24em }
img { vertical-align: top; margin: 2px } svg { border: 1px solid #d5d8dc; margin: 4px }
.bar { display: inline-block; height: .7em; margin-right: .4em; border: 1px solid #0002 }
figure { display: inline-block; margin: 6px } figcaption { font-size: 12px }
.numbers b { font-size: 1.4em; margin-right: .3em } .numbers span { margin-right: 2em; display: inline-block }
"""


def write_page(
    file: Path,
    datasets: Sequence[Dataset],
    labels: LabelFolder,
    cells: CellFolder,
    on_progress: Callable[[], None] = lambda: None,
) -> int:
    """Write the page of all frames that have 3D labels.

    Args:
        file: the page; pictures are inside it.
        datasets: the recordings.
        labels: their label images.
        cells: their 3D labels.
        on_progress: called after every frame.

    Returns:
        the number of frames.

    Raises:
        DatasetError: no frame has 3D labels, or the two folders are of different classes.
    """
    classes = labels.taxonomy
    if cells.taxonomy != classes.name:
        raise DatasetError(f"{cells.root} has the classes of {cells.taxonomy}, {labels.root} those of {classes.name}")
    frames: list[FrameStatistics] = []
    small: list[str] = []
    for dataset in datasets:
        for i in range(len(dataset)):
            if cells.has(dataset, i):
                found = cells.read(dataset, i)
                images = [labels.read(dataset, i, name)[0] for name in dataset.camera_names if labels.has(dataset, i, name)]
                frames.append(frame_statistics(dataset, i, cells.grid, found, point_labels(dataset, i, labels), images))
                small.append(_pictures(frames[-1], found, labels, cells.grid, *THUMBNAIL))
            on_progress()
    if not frames:
        raise DatasetError(f"{cells.root} has 3D labels of none of the frames; make them with occle-train label --cells")
    body = ["<h1>Recordings and their pseudo-labels</h1>", _summary(frames, labels, classes)]
    body += [
        "<h2>Classes</h2>",
        _histogram(frames, classes),
        "<h2>Disagreement between pixels and votes</h2>",
        _pairs(frames, classes),
    ]
    body += ["<h2>Poses</h2>", *(_path(dataset) for dataset in datasets), f"<h2>The {min(WORST, len(frames))} worst frames</h2>"]
    for number in worst_frames(frames, WORST):
        frame = frames[number]
        found = cells.read(frame.dataset, frame.number)
        solid = perspective(_shown(found, classes), cells.grid, classes)
        pictures = _pictures(frame, found, labels, cells.grid, *LARGE) + _image(solid, 640)
        body.append(f"<h3>{_caption(frame)}</h3>{pictures}")
    every = max(1, -(-sum(map(len, small)) // MOST))
    body.append("<h2>All frames</h2>" if every == 1 else f"<h2>One of {every} frames</h2>")
    for frame, pictures in list(zip(frames, small, strict=True))[::every]:
        body.append(f"<figure>{pictures}<figcaption>{_caption(frame)}</figcaption></figure>")
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Pseudo-labels</title><style>{STYLE}</style>"
    with atomic_write(file) as temporary:
        temporary.write_text(f"{head}<body>{''.join(body)}</body></html>", "utf-8")
    return len(frames)


def _summary(frames: Sequence[FrameStatistics], labels: LabelFolder, classes: Taxonomy) -> str:
    pixels = sum((frame.pixels for frame in frames), np.zeros(256, np.int64))
    occupied, total = sum(frame.occupied for frame in frames), sum(frame.occupied + frame.free + frame.unknown for frame in frames)
    moving, points = (sum(frame.moving[k] for frame in frames) for k in (0, 1))
    pairs = sum((frame.pairs for frame in frames), np.zeros((256, 256), np.int64))
    numbers = {
        "frames": f"{len(frames)}",
        "pixels labelled": _percent(pixels[:IGNORE].sum(), pixels.sum()),
        "occupied cells": _percent(occupied, total),
        "free cells": _percent(sum(frame.free for frame in frames), total),
        "unknown cells": _percent(sum(frame.unknown for frame in frames), total),
        "occupied cells with a class": _percent(sum(frame.cells[:IGNORE].sum() for frame in frames), occupied),
        "points in motion": _percent(moving, points),
        "points whose pixel and cell disagree": _percent(pairs.sum() - np.trace(pairs), pairs.sum()),
    }
    spans = "".join(f"<span><b>{value}</b>{escape(name)}</span>" for name, value in numbers.items())
    return f"<p class='numbers'>{spans}</p><p>Label images by {escape(_source(labels))}; classes of {escape(classes.name)}.</p>"


def _source(labels: LabelFolder) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.source.items() if not isinstance(value, dict)) or labels.root.name


def _histogram(frames: Sequence[FrameStatistics], classes: Taxonomy) -> str:
    pixels, cells = (sum((getattr(frame, kind) for frame in frames), np.zeros(256, np.int64)) for kind in ("pixels", "cells"))
    shares = [counts / max(counts[: classes.num_classes].sum(), 1) for counts in (pixels, cells)]
    rows = []
    for number, name in enumerate(classes.names):
        if number == classes.free:
            continue
        color = "rgb({},{},{})".format(*classes.colors[number].tolist())
        bars = ""
        for share in shares:
            bar = f"<span class='bar' style='width:{22 * share[number]:.2f}em;background:{color}'></span>"
            bars += f"<td class='bars'>{bar}{100 * share[number]:.2f} %</td>"
        rows.append(f"<tr><td>{escape(name)}</td>{bars}</tr>")
    head = "<th>class</th><th class='bars'>of the labelled pixels</th><th class='bars'>of the cells with a class</th>"
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _pairs(frames: Sequence[FrameStatistics], classes: Taxonomy) -> str:
    pairs = sum((frame.pairs for frame in frames), np.zeros((256, 256), np.int64))[: classes.num_classes, : classes.num_classes]
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None)[:PAIRS]
    rows = []
    for place in order:
        pixel, cell = divmod(int(place), classes.num_classes)
        if pairs[pixel, cell]:
            rows.append(f"<tr><td>{classes.names[pixel]}</td><td>{classes.names[cell]}</td><td>{pairs[pixel, cell]}</td></tr>")
    return f"<table><tr><th>pixel</th><th>cell</th><th>points</th></tr>{''.join(rows)}</table>"


def _path(dataset: Dataset) -> str:
    """The way of a sequence from above, x to the right and y up, as wide as it is long."""
    poses = [pose for i in range(len(dataset)) if (pose := dataset.pose(i)) is not None]
    missing = len(dataset) - len(poses)
    if not poses:
        return f"<p>{escape(dataset.name)}: no poses</p>"
    xy = np.array([pose[:2, 3] for pose in poses])
    span = max(float(np.ptp(xy, axis=0).max()), 1.0)
    middle = (xy.max(0) + xy.min(0)) / 2
    at = 150 + 260 * (xy - middle) / span * (1, -1)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    dots = "".join(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' fill='#2a6fb0'/>" for x, y in at)
    steps = np.linalg.norm(np.diff([pose[:3, 3] for pose in poses], axis=0), axis=1) if len(poses) > 1 else np.zeros(1)
    caption = f"{dataset.name}: {steps.sum():.1f} m, at most {steps.max():.2f} m a frame, {missing} without pose; {span:.1f} m wide"
    return (
        f"<figure><svg width='300' height='300'><polyline points='{line}' fill='none' stroke='#2a6fb0'/>{dots}"
        f"<circle cx='{at[0, 0]:.1f}' cy='{at[0, 1]:.1f}' r='5' fill='none' stroke='#c0392b'/></svg>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _pictures(frame: FrameStatistics, cells: Cells, labels: LabelFolder, grid: VoxelGrid, width: int, size: int) -> str:
    """The images with their labels, and the cells from above."""
    dataset, i = frame.dataset, frame.number
    recorded = dataset.frame(i)
    parts = []
    for name, image in zip(dataset.camera_names, recorded.images):
        if image is None:
            continue
        image = _narrowed(image, width)
        if labels.has(dataset, i, name):
            ids = labels.read(dataset, i, name, (image.shape[1], image.shape[0]))[0]
            known = ids != IGNORE
            image[known] = (0.45 * image[known] + 0.55 * labels.taxonomy.colors[ids[known]]).astype(np.uint8)
        parts.append(_image(image, width))
    return "".join(parts) + _image(top_view(_shown(cells, labels.taxonomy), grid, labels.taxonomy, size), size)


def _shown(cells: Cells, classes: Taxonomy) -> NDArray[np.uint8]:
    """Cells with a class; occupied ones without are left out, as are free and unknown ones."""
    return np.where((cells.occupancy == 1) & (cells.classes != IGNORE), cells.classes, np.uint8(classes.free))


def _image(picture: NDArray[np.uint8], width: int) -> str:
    if picture.shape[1] > width:
        picture = _narrowed(picture, width)
    content = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 72])[1].tobytes()
    source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return f"<img width='{picture.shape[1]}' height='{picture.shape[0]}' src='{source}'>"


def _narrowed(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    size = (width, round(width * picture.shape[0] / picture.shape[1]))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _caption(frame: FrameStatistics) -> str:
    name = f"{frame.dataset.name} {frame.dataset.numbers[frame.number]:06d}"
    return escape(f"{name}: {100 * frame.disagreement:.1f} % disagree, {100 * frame.with_class:.0f} % with a class")


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
