# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI's submission: the zip that the benchmark's validator accepts holds the predictions, in raw ids, on its grid."""

import shutil
import zipfile

import numpy as np
import pytest
from occle_train.data.samples import open_all
from occle_train.evaluation.submission import raw_ids, write_submission
from occle_train.streets import simulate

from occle_core import taxonomy
from occle_core.bundle import rig_spec, save_bundle
from occle_core.datasets import DatasetError
from occle_core.predictor import Predictor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    spec = rig_spec("tiny", "kitti")
    folder = tmp_path_factory.mktemp("bundle") / "kitti"
    save_bundle(folder, spec, spec.build())
    return folder


@pytest.fixture(scope="module")
def test_set(tmp_path_factory):
    """Two sequences whose voxels are .bin alone, as the hidden test set's."""
    root = tmp_path_factory.mktemp("data")
    simulate(root, "kitti", drives=1, frames=3, scale=0.1, workers=1)
    first = root / "sequences" / "00"
    for file in first.glob("voxels/*"):
        if file.suffix != ".bin" or file.stem == "000001":
            file.unlink()
    shutil.copytree(first, root / "sequences" / "12")
    first.rename(root / "sequences" / "11")
    return root


def test_raw_ids_are_mapped_back_to_their_classes():
    classes = taxonomy.load("semantickitti")
    raw = raw_ids(classes)
    assert classes.from_raw(raw).tolist() == list(range(20)) and raw[0] == 0 and raw[1] == 10


def test_every_frame_with_voxels_is_written_as_the_server_reads_it(tmp_path, bundle, test_set):
    predictor, datasets = Predictor.load(bundle), open_all(test_set)
    assert write_submission(tmp_path / "s.zip", predictor, datasets) == 4
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        names = archive.namelist()
        labels = np.frombuffer(archive.read("sequences/12/predictions/000002.label"), np.uint16)
    folders = ["sequences/", *(f"sequences/{name}/{rest}" for name in ("11", "12") for rest in ("", "predictions/"))]
    files = [f"sequences/{name}/predictions/00000{i}.label" for name in ("11", "12") for i in (0, 2)]
    assert sorted(names) == sorted(folders + files)
    found = predictor.predict(datasets[1].frame(2)).labels
    expected = np.kron(found, np.ones((2, 2, 2), np.uint8))
    np.testing.assert_array_equal(taxonomy.load("semantickitti").from_raw(labels).reshape(256, 256, 32), expected)


def test_what_cannot_be_submitted_is_refused(tmp_path, bundle, test_set):
    predictor, datasets = Predictor.load(bundle), open_all(test_set, ["11"])
    with pytest.raises(ValueError, match=r"give --out NAME\.zip"):
        write_submission(tmp_path / "s", predictor, datasets)
    for file in (test_set / "sequences" / "11" / "voxels").glob("*.bin"):
        file.unlink()
    with pytest.raises(DatasetError, match=r"voxels/NNNNNN\.bin"):
        write_submission(tmp_path / "s.zip", predictor, datasets)
    assert not (tmp_path / "s.zip").exists()
    spec = rig_spec("tiny", "nuscenes")
    save_bundle(tmp_path / "other", spec, spec.build())
    with pytest.raises(ValueError, match="needed are SemanticKITTI's classes"):
        write_submission(tmp_path / "s.zip", Predictor.load(tmp_path / "other"), datasets)
