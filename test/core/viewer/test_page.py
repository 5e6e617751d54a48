# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page holds what it was given, decoded here bit by bit, and nothing from elsewhere."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from view_frames import CAR, CLASSES, GRID, view_frame

from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import RollingMap
from occle_core.viewer.layers import Layer, surface_cells
from occle_core.viewer.page import write_page
from occle_core.viewer.view_frame import ViewError, add_map


class Elements(HTMLParser):
    """The texts of the elements with an id, and all tags with their attributes, as a browser reads them."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: str | None = None
        self.text = page.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or tag

    def handle_data(self, data):
        if self._open:
            self.texts[self._open] = self.texts.get(self._open, "") + data

    def handle_endtag(self, tag):
        self._open = None


def decode(grid: dict, text: str) -> tuple[dict[int, int], dict[int, int]]:
    """Cell number -> label, and -> opacity 0..15."""
    raw = zlib.decompress(base64.b64decode(text))
    size = math.prod(grid["shape"])
    bits, rest = raw[: (size + 7) // 8], raw[(size + 7) // 8 :]
    cells = [n for n in range(size) if bits[n // 8] >> (n % 8) & 1]
    assert grid["count"] == len(cells) and len(rest) == 2 * len(cells)
    return dict(zip(cells, rest[: len(cells)])), dict(zip(cells, rest[len(cells) :]))


def test_the_arrays_are_the_occupancies(tmp_path):
    frames = [view_frame(number) for number in range(3)]
    summary = write_page(tmp_path / "page.html", iter(frames), "drive", "bundle")
    assert (summary.frames, summary.path) == (3, tmp_path / "page.html")
    assert summary.megabytes == pytest.approx((tmp_path / "page.html").stat().st_size / 1e6)
    found = Elements(tmp_path / "page.html")
    scene = json.loads(found.texts["scene"])
    assert [row["number"] for row in scene["frames"]] == [0, 1, 2]
    assert [int(row["stamp"]) for row in scene["frames"]] == [shown.occupancy.stamp for shown in frames]
    for shown, row in zip(frames, scene["frames"]):
        stored = json.loads(found.texts[f"frame-{row['number']}"])
        grid = row["layers"]["frame"]
        assert (grid["origin"], grid["shape"], grid["resolution"]) == (list(GRID.origin), list(GRID.shape), 0.4)
        labels, opacity = decode(grid, stored["layers"]["frame"])
        flat, confidence = shown.occupancy.labels.reshape(-1), shown.occupancy.confidence.reshape(-1).astype(float)
        assert labels == {n: int(label) for n, label in enumerate(flat) if label not in (0, 255)}
        assert len(labels) > 150 and 16 * 16 * 7 - 1 in labels
        assert all(abs(level / 15 - confidence[n]) <= 0.5 / 15 + 1e-6 for n, level in opacity.items())
        truth, _ = decode(row["layers"]["truth"], stored["layers"]["truth"])
        assert truth == {n: label for n, label in labels.items() if label != CAR}
        image = cv2.imdecode(np.frombuffer(base64.b64decode(stored["images"]["cam2"]), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (60, 160, 3) and np.abs(image[:, :, ::-1].mean(axis=(0, 1)) - (200, 30, 30)).max() < 3
    assert {entry["name"] for entry in scene["classes"]} == {"car", "road", "building"}
    assert scene["frames"][0]["timings"] == {"prepare": 4.5}


def test_the_map_is_the_rolling_map_and_lies_near_the_origin(tmp_path):
    world = (4_500_000.0, 321_000.0, 120.0)  # as UTM has it; float32 would round it to half a metre
    frames = [view_frame(number, world) for number in range(3)]
    write_page(tmp_path / "page.html", add_map(frames), "drive")
    found = Elements(tmp_path / "page.html")
    row = json.loads(found.texts["scene"])["frames"][2]
    labels, _ = decode(row["layers"]["map"], json.loads(found.texts["frame-2"])["layers"]["map"])
    rolling = RollingMap(CLASSES)
    for shown in frames:
        rolling.update(shown.occupancy, shown.frame, shown.frame.T_world_lidar)
    snapshot = rolling.snapshot()
    assert labels == {int(n): int(snapshot.labels.reshape(-1)[n]) for n in np.flatnonzero(snapshot.occupied)}
    pose = np.array(row["pose"]).reshape(4, 4).T
    np.testing.assert_allclose(pose[:3, 3], (0.8, 0, 0), atol=1e-6)
    np.testing.assert_allclose(np.array(row["layers"]["map"]["origin"]) + world, snapshot.grid.origin, atol=1e-6)
    assert max(map(abs, row["layers"]["map"]["origin"])) < 60


def test_the_page_refers_to_nothing_outside(tmp_path):
    write_page(tmp_path / "page.html", add_map([view_frame()]), "drive")
    found = Elements(tmp_path / "page.html")
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy and "connect-src" not in policy
    assert not [tag for tag, a in found.tags if {"src", "href", "data", "action"} & a.keys()]
    assert not [tag for tag, _ in found.tags if tag in ("link", "iframe", "object", "base")]
    outside = r"https?:|//[a-z]+\.|@import|url\(|\bimport\b|XMLHttpRequest|\bfetch\(|WebSocket|EventSource|sendBeacon"
    code = re.sub(r'<script type="application/json".*?</script>', "", found.text, flags=re.DOTALL)
    assert not re.findall(outside, code)


def test_no_name_ends_an_element(tmp_path):
    bad = "</script><script>document.title='taken'</script><!--"
    classes = replace(CLASSES, names=tuple(bad if name == "road" else name for name in CLASSES.names))
    frames = [view_frame(names=(bad,), timings={bad: 1.0}, classes=classes)]
    write_page(tmp_path / "page.html", frames, bad, bad)
    found = Elements(tmp_path / "page.html")
    assert [tag for tag, _ in found.tags].count("script") == 3  # one frame, the scene, the code
    assert found.texts["title"].strip() == bad and found.texts["h1"].strip() == bad
    scene = json.loads(found.texts["scene"])
    assert bad in {entry["name"] for entry in scene["classes"]} and scene["frames"][0]["timings"] == {bad: 1.0}
    assert list(json.loads(found.texts["frame-0"])["images"]) == [bad]


def test_times_that_are_no_numbers_are_left_out(tmp_path):
    write_page(tmp_path / "page.html", [view_frame(timings={"a": math.nan, "b": math.inf, "c": 2.0})], "drive")
    assert json.loads(Elements(tmp_path / "page.html").texts["scene"])["frames"][0]["timings"] == {"c": 2.0}


def test_without_frames_there_is_no_page(tmp_path):
    with pytest.raises(ViewError, match="no frame"):
        write_page(tmp_path / "page.html", [], "drive")
    assert not list(tmp_path.iterdir())


def test_frames_without_poses_have_no_map():
    assert [shown.map for shown in add_map([view_frame(0, pose=False), view_frame(1, pose=False)])] == [None, None]
    assert [shown.map is None for shown in add_map([view_frame(0, pose=False), view_frame(1)])] == [True, False]


def test_surface_cells_are_those_with_a_free_side():
    rng = np.random.default_rng(0)
    grid = VoxelGrid((0, 0, 0), (6, 5, 4), 1.0)
    solid = rng.random(grid.shape) < 0.8
    cells = np.flatnonzero(solid)
    found = surface_cells(Layer(grid, cells, np.ones(len(cells), np.uint8), np.ones(len(cells), np.float32)))
    for (x, y, z), is_surface in zip(np.argwhere(solid), found):
        covered = all(
            0 <= x + a < 6 and 0 <= y + b < 5 and 0 <= z + c < 4 and solid[x + a, y + b, z + c]
            for a, b, c in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
        )
        assert is_surface != covered
    assert 0 < found.sum() < len(cells)
