# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page of pseudo-labels: its figures against a loop, its pictures and its size."""

import re

import numpy as np
import pytest
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


def test_the_command_writes_one_page_with_everything_inside(tmp_path, monkeypatch):
    simulate(tmp_path / "streets", "kitti", 1, 2, 9100, 0.05, 1)
    data = open_dataset(tmp_path / "streets")
    for scan in (tmp_path / "streets" / "sequences" / "00" / "velodyne").iterdir():
        scan.write_bytes(np.fromfile(scan, np.float32).reshape(-1, 4)[::8].tobytes())
    labeller = DegradedLabeller(data.taxonomy, DegradeConfig(), 0)
    write_missing(tmp_path / "labels", [data], labeller, data.taxonomy, labeller.source)
    common = ["--data", str(tmp_path / "streets")]
    carve = ["label", *common, "--out", str(tmp_path / "labels"), "--ready", "--cells", str(tmp_path / "cells")]
    page = tmp_path / "review.html"
    review = ["review", *common, "--labels", str(tmp_path / "labels"), "--cells", str(tmp_path / "cells"), "--out", str(page)]
    early = CliRunner().invoke(app, review)
    assert early.exit_code == 1 and not page.exists()
    for command in (carve, review):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    text = page.read_text("utf-8")
    assert text.count("data:image/jpeg;base64,") == 2 * 2 + 2 * 3  # all frames small, both of them large and in 3D
    assert not re.findall(r"(?:src|href)='(?!data:)", text) and "building" in text and "<svg" in text
    monkeypatch.setattr(page_module, "MOST", 1000)  # as if there were too many frames for a page
    assert CliRunner().invoke(app, review).exit_code == 0
    text = page.read_text("utf-8")
    assert text.count("data:image/jpeg;base64,") == 1 * 2 + 2 * 3 and re.search("<h2>One of \\d+ frames</h2>", text)
    assert page.stat().st_size / 2 < 30e6 / 500 + 10 * 250e3 / 2  # 500 frames and ten large ones stay below 30 MB


@pytest.mark.parametrize("option", ["--ready", "cells.free_margin=x"])
def test_options_that_do_not_fit(tmp_path, option):
    more = ["--set", option] if "=" in option else [option]
    refused = CliRunner().invoke(app, ["label", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *more])
    assert refused.exit_code == 1 and not (tmp_path / "out").exists()
