# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""3D pseudo-labels on disk: resumable to the same bytes, without a look at the data set's labels."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from occle_train.pseudo_labels.cell_folder import CellConfig, CellFolder, write_cells
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing
from occle_train.pseudo_labels.lidar import accumulated_occupancy
from occle_train.pseudo_labels.lift import lifted_labels, point_labels
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from occle_train.streets import simulate
from occle_train.worker_pool import Workers

from occle_core.datasets import DatasetError, open_dataset
from occle_core.geometry.grid import VoxelGrid

GRID = VoxelGrid((0, -12.8, -2), (32, 64, 16), 0.4)
CONFIG = CellConfig(past_scans=2, future_scans=1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    simulate(folder / "streets", "kitti", 1, 3, 9100, 0.05, 1)
    data = open_dataset(folder / "streets")
    labeller = DegradedLabeller(data.taxonomy, DegradeConfig(), 0)
    write_missing(folder / "images", [data], labeller, data.taxonomy, labeller.source)
    return folder


def contents(folder: Path):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_they_are_the_accumulated_cells_and_the_votes(recorded, tmp_path):
    data = open_dataset(recorded / "streets")
    labels = LabelFolder(recorded / "images", data.taxonomy)
    assert write_cells(tmp_path / "cells", [data], GRID, labels, CONFIG) == (3, 0)
    folder = CellFolder(tmp_path / "cells")
    found, unlabelled = folder.read(data, 1), UnlabelledDataset(data, CONFIG.rays)
    assert folder.grid == GRID and folder.taxonomy == "semantickitti"
    assert np.array_equal(found.occupancy, accumulated_occupancy(unlabelled, 1, GRID, 2, 1, "remove", 0.0, 1))
    votes = lifted_labels(unlabelled, 1, GRID, lambda i: point_labels(unlabelled, i, labels), 2, 1, "remove")
    assert (votes != 255).sum() > 100 and np.array_equal(found.classes, votes)
    assert found.moving.shape == (len(data.points(1)),) and np.array_equal(found.moving, unlabelled.moving(1))


def test_a_stopped_run_is_resumed_to_the_same_bytes_and_labels_are_not_read(recorded, tmp_path):
    data = open_dataset(recorded / "streets")
    write_cells(tmp_path / "whole", [data], GRID, None, CONFIG)
    bare = tmp_path / "bare"
    shutil.copytree(recorded / "streets", bare, ignore=shutil.ignore_patterns("labels", "voxels", "semantic_2"))

    def stop(scene, i):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cells(tmp_path / "parts", [open_dataset(bare)], GRID, None, CONFIG, stop)
    assert write_cells(tmp_path / "parts", [open_dataset(bare)], GRID, None, CONFIG) == (2, 1)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole") and len(contents(tmp_path / "whole")) == 4


@pytest.mark.slow
def test_two_processes_give_what_one_gives(recorded, tmp_path):
    data = open_dataset(recorded / "streets")
    labels = LabelFolder(recorded / "images", data.taxonomy)
    write_cells(tmp_path / "one", [data], GRID, labels, CONFIG)
    assert write_cells(tmp_path / "two", [data], GRID, labels, CONFIG, workers=Workers(2)) == (3, 0)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_at_any_moment(recorded, tmp_path, workers):
    """The command is killed while it writes, again and again, then run to its end."""
    out = tmp_path / "cells"
    command = [
        sys.executable,
        "-m",
        "occle_train.cli",
        "label",
        "--ready",
        "--set",
        "cells.past_scans=2",
        "--workers",
        str(workers),
    ]
    command += ["--data", str(recorded / "streets"), "--out", str(recorded / "images"), "--cells", str(out)]
    for count in (0, 1):
        process = subprocess.Popen(command, start_new_session=True)
        while len(list(out.glob("*/*.npz"))) <= count and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False).returncode == 0
    command[command.index(str(out))] = str(tmp_path / "undisturbed")
    assert subprocess.run(command, check=False).returncode == 0
    whole = contents(tmp_path / "undisturbed")
    assert len(whole) == 4 and contents(out) == whole


def test_other_settings_need_another_folder(recorded, tmp_path):
    data = open_dataset(recorded / "streets")
    write_cells(tmp_path / "cells", [data], GRID, None, CONFIG)
    with pytest.raises(DatasetError, match="made in another way"):
        write_cells(tmp_path / "cells", [data], GRID, None, CellConfig(past_scans=1))
    with pytest.raises(DatasetError, match="occle-train label --cells"):
        CellFolder(tmp_path)
