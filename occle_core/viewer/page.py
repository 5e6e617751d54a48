# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The HTML page: one file with images, voxels and controls, that needs no server and no network."""

from __future__ import annotations

import base64
import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.atomic_file import atomic_write
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import Taxonomy
from occle_core.viewer.layers import UNNAMED, UNNAMED_COLOR, Layer, layers_of, pack_layer
from occle_core.viewer.view_frame import ViewError, ViewFrame

IMAGE_WIDTH, JPEG_QUALITY = 640, 80


@dataclass(frozen=True)
class PageSummary:
    """What was written.

    Args:
        path: the page.
        frames: number of frames.
        megabytes: size of the file, MB (10^6 bytes).
    """

    path: Path
    frames: int
    megabytes: float

    def __str__(self) -> str:
        return f"{self.path}: {self.frames} frames, {self.megabytes:.1f} MB ({self.megabytes / self.frames:.2f} MB per frame)"


def write_page(path: Path, frames: Iterable[ViewFrame], title: str, subtitle: str = "") -> PageSummary:
    """Write a page, atomically. Frames are taken one by one, so that memory does not grow with their number.

    Args:
        path: the file.
        frames: all with the same classes.
        title: heading.
        subtitle: where the frames are from, and with which bundle.

    Raises:
        ViewError: there is no frame. OSError: the file cannot be written.
    """
    head, tail = _text("page.html").split("{{FRAMES}}\n")
    for name, text in (("STYLE", _text("page.css")), ("TITLE", html.escape(title)), ("SUBTITLE", html.escape(subtitle))):
        head = head.replace("{{" + name + "}}", text.rstrip("\n"))
    script = "\n".join(_text(name).replace('"use strict";\n', "") for name in ("voxels.js", "scene.js", "page.js"))
    with atomic_write(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(head)
            scene = _write_frames(file, frames)
            _write_json(file, "scene", scene)
            file.write(tail.replace("{{SCRIPT}}", f'"use strict";\n{script}'))
        size = temporary.stat().st_size
    return PageSummary(path, len(scene["frames"]), size / 1e6)


def _write_frames(file: TextIOWrapper, frames: Iterable[ViewFrame]) -> dict[str, Any]:
    """Write the frames' arrays; returns what holds for all of them."""
    rows: list[dict[str, Any]] = []
    counts: Counter[int] = Counter()
    start: NDArray[np.float64] | None = None
    first: ViewFrame | None = None
    for shown in frames:
        first = first or shown
        if start is None and shown.T_world_grid is not None:
            start = shown.T_world_grid[:3, 3]
        layers = layers_of(shown)
        for layer in layers.values():
            counts.update(dict(enumerate(np.bincount(layer.labels, minlength=256).tolist())))
        _write_json(
            file,
            f"frame-{len(rows)}",
            {
                "images": {name: _jpeg(image) for name, image in shown.images.items()},
                "layers": {name: base64.b64encode(pack_layer(layer)).decode() for name, layer in layers.items()},
            },
        )
        rows.append(_row(shown, layers, start))
    if first is None:
        raise ViewError("there is no frame to show")
    grid = first.occupancy.grid
    return {
        "frames": rows,
        "classes": _legend(counts, first.occupancy.taxonomy),
        "bounds": {"low": grid.origin, "high": grid.upper},
    }


def _row(shown: ViewFrame, layers: dict[str, Layer], start: NDArray[np.float64] | None) -> dict[str, Any]:
    """One frame's entry; poses and map are moved so that the first pose lies at the origin: WebGL computes in float32."""
    pose = shown.T_world_grid
    grids = {name: _grid(layer.grid, len(layer.cells)) for name, layer in layers.items()}
    if pose is not None and start is not None:
        pose = pose.copy()
        pose[:3, 3] -= start
        if "map" in grids:
            grids["map"]["origin"] = [a - b for a, b in zip(layers["map"].grid.origin, start.tolist())]
    timings = {name: value for name, value in shown.occupancy.timings.items() if math.isfinite(value)}
    return {
        "number": shown.number,
        "stamp": str(shown.occupancy.stamp),  # JavaScript's numbers cannot hold it
        "timings": timings,
        "pose": None if pose is None else pose.T.reshape(-1).tolist(),  # column-major
        "layers": grids,
    }


def _grid(grid: VoxelGrid, count: int) -> dict[str, Any]:
    return {"origin": list(grid.origin), "shape": list(grid.shape), "resolution": grid.resolution, "count": count}


def _legend(counts: Counter[int], taxonomy: Taxonomy) -> Sequence[dict[str, Any]]:
    """The classes that occur, in the order of their ids."""
    found = [
        {"id": number, "name": taxonomy.names[number], "rgb": taxonomy.colors[number].tolist()}
        for number in range(taxonomy.num_classes)
        if counts[number]
    ]
    return found + ([{"id": taxonomy.ignore, "name": UNNAMED, "rgb": UNNAMED_COLOR}] if counts[taxonomy.ignore] else [])


def _jpeg(image: NDArray[np.uint8]) -> str:
    height, width = image.shape[:2]
    if width > IMAGE_WIDTH:
        image = np.asarray(
            cv2.resize(image, (IMAGE_WIDTH, max(1, round(height * IMAGE_WIDTH / width))), interpolation=cv2.INTER_AREA)
        )
    written, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert written
    return base64.b64encode(data.tobytes()).decode()


def _write_json(file: TextIOWrapper, name: str, value: Any) -> None:
    """A JSON element; "<" is escaped, so that no text can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    file.write(f'<script type="application/json" id="{name}">{text}</script>\n')


def _text(name: str) -> str:
    return (files("occle_core.viewer") / "data" / name).read_text("utf-8")
