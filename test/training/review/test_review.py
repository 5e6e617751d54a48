# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page of pseudo-labels: its figures against a loop, its pictures and its size."""

import re

import cv2
import numpy as np
import pytest
from browser import browse, needs_chromium
from occle_train.cli import app
from occle_train.pseudo_labels.cell_folder import Cells
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.label_folder import write_missing
from occle_train.review import page as page_module
from occle_train.review.statistics import frame_statistics, worst_frames
from occle_train.streets import simulate
from rooms import BUILDING, GRID, ROAD, Rooms
from typer.testing import CliRunner

from occle_core.datasets import open_dataset


def statistics(seed, moving=3):
    rng, rooms = np.random.default_rng(seed), Rooms("a")
    cells = Cells(
        rng.choice(np.array([0, 1, 255], np.uint8), GRID.shape),
        rng.choice(np.array([ROAD, BUILDING, 255], np.uint8), GRID.shape),
        np.arange(len(rooms.points(0))) < moving,
    )
    own = rng.choice(np.array([ROAD, BUILDING, 255], np.uint8), len(cells.moving))
    image = rng.choice(np.array([ROAD, 255], np.uint8), (4, 6))
    return cells, own, image, frame_statistics(rooms, 0, GRID, cells, (own, own / 255), [image, image])


def test_figures_of_a_frame_against_a_loop():
    cells, own, image, found = statistics(0)
    assert found.moving == (3, len(own)) and found.pixels[ROAD] == 2 * (image == ROAD).sum()
    assert (found.occupied, found.free, found.unknown) == tuple((cells.occupancy == v).sum() for v in (1, 0, 255))
    with_class = [c for c, o in zip(cells.classes.ravel(), cells.occupancy.ravel()) if o == 1 and c != 255]
    assert found.with_class == len(with_class) / found.occupied and found.cells[ROAD] == with_class.count(ROAD)
    same = other = 0
    for label, point in zip(own, Rooms("a").points(0)):
        ijk, inside = GRID.index(point[None])
        if inside[0] and label != 255 and (cell := cells.classes[tuple(ijk[0])]) != 255:
            same, other = same + (cell == label), other + (cell != label)
    assert other > 10 and np.isclose(found.disagreement, other / (same + other))


def test_the_worst_disagree_most():
    frames = [statistics(seed)[3] for seed in range(5)]
    order = worst_frames(frames, 3)
    assert [frames[n].disagreement for n in order] == sorted((f.disagreement for f in frames), reverse=True)[:3]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of two simulated frames (`streets`), with label images (`labels`) and, later, cells (`cells`)."""
    folder = tmp_path_factory.mktemp("review")
    simulate(folder / "streets", "kitti", 1, 2, 9100, 0.05, 1)
    data = open_dataset(folder / "streets")
    for scan in (folder / "streets" / "sequences" / "00" / "velodyne").iterdir():
        scan.write_bytes(np.fromfile(scan, np.float32).reshape(-1, 4)[::8].tobytes())
    labeller = DegradedLabeller(data.taxonomy, DegradeConfig(), 0)
    write_missing(folder / "labels", [data], labeller, data.taxonomy, labeller.source)
    return folder


def label_and_review(folder, page):
    """The results of `label --cells` and of `review`."""
    paths = ["--data", str(folder / "streets"), "--labels", str(folder / "labels"), "--cells", str(folder / "cells")]
    carve = ["label", *paths[:2], "--out", str(folder / "labels"), "--ready", *paths[4:]]
    return [CliRunner().invoke(app, command) for command in (carve, ["review", *paths, "--out", str(page)])]


@pytest.fixture(scope="module")
def page(labelled):
    """The page of these frames."""
    file = labelled / "review.html"
    for done in label_and_review(labelled, file):
        assert done.exit_code == 0, done.output
    return file


def test_cells_come_before_the_page(labelled, tmp_path):
    page = tmp_path / "review.html"
    paths = ["--data", str(labelled / "streets"), "--labels", str(labelled / "labels"), "--cells", str(tmp_path / "none")]
    assert CliRunner().invoke(app, ["review", *paths, "--out", str(page)]).exit_code == 1 and not page.exists()


def test_the_command_writes_one_page_with_everything_inside(labelled, page, tmp_path, monkeypatch):
    text = page.read_text("utf-8")
    assert text.count("data:image/jpeg;base64,") == 2 * 2 + 2 * 3  # all frames small, both of them large and in 3D
    assert not re.findall(r"(?:src|href)='(?!data:)", text) and "building" in text and "<svg" in text
    monkeypatch.setattr(page_module, "MOST", 1000)  # as if there were too many frames for a page
    smaller = tmp_path / "smaller.html"
    assert label_and_review(labelled, smaller)[1].exit_code == 0
    text = smaller.read_text("utf-8")
    assert text.count("data:image/jpeg;base64,") == 1 * 2 + 2 * 3 and re.search("<h2>One of \\d+ frames</h2>", text)
    assert smaller.stat().st_size / 2 < 30e6 / 500 + 10 * 250e3 / 2  # 500 frames and ten large ones stay below 30 MB


@needs_chromium
@pytest.mark.timeout(120)
def test_a_browser_shows_all_of_the_page(page, tmp_path):
    seen = tmp_path / "seen.html"
    script = """<script>onload = () => Object.assign(document.body.dataset, {
        images: [...document.images].map(image => image.naturalWidth).join(), requests: performance.getEntriesByType("resource")
        .filter(one => !one.name.startsWith("data:")).length, wide: document.documentElement.scrollWidth, window: innerWidth});
        </script>"""
    seen.write_text(page.read_text("utf-8") + script, encoding="utf-8")
    document = browse(seen, tmp_path, "--dump-dom")
    state = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", document)[0]))
    widths = [int(width) for width in state["images"].split(",")]
    assert len(widths) == 2 * 2 + 2 * 3 and min(widths) > 100 and state["requests"] == "0"
    assert int(state["wide"]) <= int(state["window"]), "it is wider than the window"
    browse(seen, tmp_path, f"--screenshot={tmp_path / 'review.png'}", size="1200,3000")
    picture = cv2.imread(str(tmp_path / "review.png"))
    assert picture.shape == (3000, 1200, 3) and picture.std(axis=(1, 2)).max() > 40, "nothing is drawn"


@pytest.mark.parametrize("option", ["--ready", "cells.free_margin=x"])
def test_options_that_do_not_fit(tmp_path, option):
    more = ["--set", option] if "=" in option else [option]
    refused = CliRunner().invoke(app, ["label", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *more])
    assert refused.exit_code == 1 and not (tmp_path / "out").exists()
