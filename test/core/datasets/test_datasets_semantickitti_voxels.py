# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Both releases of SemanticKITTI's voxel files, written cell by cell from what is known of them and not with the reader's code."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from dataset_files import voxel_bits, write_semantickitti
from hypothesis import given
from hypothesis import strategies as st

from occle_core.datasets import open_dataset
from occle_core.datasets.semantickitti_voxels import on_nominal_grid, release_by_columns, release_of
from occle_core.geometry.grid import SEMANTICKITTI

CELLS = 256 * 256 * 32


def street(rng, count=4000):
    """Points of a road at z -1.73 and of things above it, and the flat index of each one's cell."""
    road = np.c_[rng.uniform(1, 50, count), rng.uniform(-25, 25, count), np.full(count, -1.73)]
    things = np.c_[rng.uniform(1, 50, count), rng.uniform(-25, 25, count), rng.uniform(-1.99, 4.39, count)]
    xyz = np.r_[road, things].astype("<f4")
    flat = [
        int((x - 0) / 0.2 + 1e-4) * 8192 + int((y + 25.6) / 0.2 + 1e-4) * 32 + int((z + 2) / 0.2 + 1e-4)
        for x, y, z in xyz.astype(float)
    ]
    return np.c_[xyz, np.full(len(xyz), 0.3, "<f4")], np.array(flat), np.repeat([40, 50], count)


def write(folder, scan, flat, raw, release, suffixes=("bin", "label", "invalid")):
    """A sequence of one frame. Release 1.0 writes every flat index one too late."""
    write_semantickitti(folder, [scan], [np.zeros(len(scan), np.int64)])
    late = int(release == "1.0")
    cells = np.zeros(CELLS + 1, "<u2")
    for at, label in zip(flat, raw):
        cells[at + late] = label
    cells = cells[:CELLS]
    bits = {"bin": cells > 0, "invalid": np.zeros(CELLS, bool)}
    for suffix in suffixes:
        content = cells if suffix == "label" else np.packbits(bits[suffix])
        content.tofile(folder / "voxels" / f"000000.{suffix}")
    return open_dataset(folder)


@pytest.mark.parametrize("release", ["1.0", "1.1"])
@pytest.mark.parametrize("suffixes", [("bin", "label", "invalid"), ("label", "invalid")])
def test_the_cells_of_both_releases_are_the_scans_own(tmp_path, release, suffixes, caplog):
    scan, flat, raw = street(np.random.default_rng(3))
    dataset = write(tmp_path / "00", scan, flat, raw, release, suffixes)
    truth = dataset.truth(0, SEMANTICKITTI)
    occupied = np.zeros(CELLS, bool)
    occupied[flat[flat != CELLS - 1]] = True
    np.testing.assert_array_equal((truth != 0) & (truth != 255), occupied.reshape(256, 256, 32))
    assert set(np.argwhere(truth == 9)[:, 2]) == {1}  # the road, at z -1.8 to -1.6
    if "bin" in suffixes:
        np.testing.assert_array_equal(voxel_bits(dataset, 0, "bin").ravel(), occupied)
    # What release 1.0 lost is unknown; release 1.1 has every cell.
    assert (truth.ravel() == 255).sum() == (release == "1.0")
    assert ("release 1.0" in caplog.text) == (release == "1.0")


def test_the_release_is_said_once(tmp_path, caplog):
    scan, flat, raw = street(np.random.default_rng(4))
    write(tmp_path / "00", scan, flat, raw, "1.0").truth(0, SEMANTICKITTI)
    for _ in range(3):
        open_dataset(tmp_path / "00").truth(0, SEMANTICKITTI)
    assert caplog.text.count("release 1.0") == 1


def test_files_of_another_recording_are_said(tmp_path, caplog):
    rng = np.random.default_rng(5)
    _, flat, raw = street(rng)
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "00", street(rng)[0] * [0.3, 0.3, 1, 1], flat, raw, "1.1").truth(0, SEMANTICKITTI)
    assert "does not fit its scans" in caplog.text


def test_scans_that_decide_nothing_leave_it_to_the_columns():
    """A file whose cells no scan reaches (velodyne left out): the cells above each other show the release."""
    raw = np.zeros((256, 256, 32), "<u2")
    raw[::2, :, 28:] = 70  # tree tops in the volume's uppermost metre
    raw[..., :2] = 40
    assert release_of([(raw.ravel() > 0, False, np.full((9, 4), 99.0, np.float32))]) == (None, 0.0)
    assert release_by_columns(raw.ravel()) == "1.1"
    assert release_by_columns(np.r_[np.uint16(0), raw.ravel()[:-1]]) == "1.0"
    assert release_by_columns(np.zeros(CELLS, "<u2")) is None


def test_an_empty_file_decides_nothing_and_the_next_is_looked_at():
    scan, flat, _ = street(np.random.default_rng(6))
    late, nothing = np.zeros(CELLS, bool), np.zeros(CELLS, bool)
    late[flat[flat < CELLS - 1] + 1] = True
    assert release_of([(nothing, True, scan)])[0] is None
    release, agreement = release_of([(nothing, True, scan), (late, True, scan), (nothing, True, scan)])
    assert release == "1.0" and agreement > 0.999


@given(st.integers(0, 2**32 - 1))
def test_undoing_release_1_0_moves_every_cell_but_the_lost_one(seed):
    nominal = np.random.default_rng(seed).integers(0, 99, CELLS).astype("<u2")
    file = np.r_[np.uint16(7), nominal[:-1]]
    got = on_nominal_grid(file, "1.0", 255).ravel()
    assert (got[:-1] == nominal[:-1]).all() and got[-1] == 255
    assert (on_nominal_grid(nominal, "1.1", 255).ravel() == nominal).all()
