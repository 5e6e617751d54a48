# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc trained on occle sequences of a rig file: its grid, cameras and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from occle_train.cli import app
from occle_train.data.samples import Samples, open_all
from occle_train.data.truth import scored_grid, sensor_mask, voxel_truth
from occle_train.minkocc.described_rig import check_sensors, own_classes, spec_of_rig
from occle_train.streets import simulate
from typer.testing import CliRunner

from occle_core import taxonomy
from occle_core.bundle import load_bundle
from occle_core.datasets import DatasetError
from occle_core.geometry.grid import VoxelGrid
from occle_core.rig import RigError, read_rig
from occle_core.rig.files import class_list
from occle_core.taxonomy import TaxonomyConfig

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/own_rig/rig.yaml"


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Two frames of the example rig: three cameras, two LiDARs, classes of its own."""
    out = tmp_path_factory.mktemp("own")
    rig = read_rig(EXAMPLE)
    simulate(out, rig, drives=1, frames=2, seed=3, scale=0.1, workers=1, classes=class_list(rig, EXAMPLE))
    return out


def written(tmp_path, **changes):
    """The example's rig file with other values; None leaves a field out."""
    content = {**yaml.safe_load(EXAMPLE.read_text()), **changes}
    file = tmp_path / "rig.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}, sort_keys=False))
    (tmp_path / "classes.yaml").write_text((EXAMPLE.parent / "classes.yaml").read_text())
    return file


def called(*arguments):
    return CliRunner().invoke(app, [str(word) for word in arguments])


def test_the_spec_is_the_rig_files(tmp_path):
    spec = spec_of_rig("small", EXAMPLE)
    assert spec.name == "minkocc-small-own_rig"
    assert spec.voxel_grid == VoxelGrid((-12.8, -12.8, -1.0), (64, 64, 8), 0.4)
    assert taxonomy.load(spec.taxonomy).names == ("free", "floor", "person", "vehicle", "obstacle")
    image = spec.network.image
    assert image.num_cameras == 3 and image.width % 32 == image.height % 32 == 0
    assert image.width / image.height == pytest.approx((1.5 * 1.5 * 4 / 3) ** (1 / 3), abs=0.1)  # the cameras' shapes
    assert image.width * image.height == pytest.approx(352 * 192, rel=0.1)  # as many pixels as nuScenes' images
    no_camera = spec_of_rig("small", written(tmp_path, cameras=None))
    assert no_camera.network.image.num_cameras == 1  # a masked one
    shipped = spec_of_rig("tiny", written(tmp_path, classes="semantickitti"))
    assert shipped.taxonomy == "semantickitti"


def test_what_a_rig_file_lacks_is_one_line(tmp_path):
    with pytest.raises(RigError, match="has no grid; add `grid:"):
        spec_of_rig("tiny", written(tmp_path, grid=None))
    with pytest.raises(RigError, match=r"names no class list; add `classes: \.\.\.`, or give --classes"):
        spec_of_rig("tiny", written(tmp_path, classes=None))
    uneven = {"origin": [0, 0, 0], "shape": [60, 64, 8], "resolution": 0.4}
    with pytest.raises(ValueError, match="divisible by 8"):
        spec_of_rig("tiny", written(tmp_path, grid=uneven))


def test_own_classes_read_sequences_that_hold_them(sequences):
    """Class ids of a sequence's own list stay what they are; a list without one of its names is refused."""
    own = own_classes(EXAMPLE)
    plain, read = (open_all(sequences, classes=classes)[0] for classes in (None, taxonomy.load(own)))
    grid = plain.rig.grid.grid
    np.testing.assert_array_equal(read.truth(0, grid), plain.truth(0, grid))
    np.testing.assert_array_equal(read.point_labels(0), plain.point_labels(0))
    assert {1, 4} <= set(np.unique(read.truth(0, grid)))  # floor and obstacle
    more = TaxonomyConfig.model_validate({**own.model_dump(), "classes": {**own.classes, "water": (0, 0, 200)}})
    with pytest.raises(ValueError, match="has no class 'water'"):
        open_all(sequences, classes=taxonomy.load(more))


def test_a_part_of_the_rigs_grid_and_finer_cells_have_truth_and_masks(sequences):
    dataset = open_all(sequences)[0]
    whole = dataset.rig.grid.grid
    part = VoxelGrid((-6.4, -6.4, -1.0), (32, 32, 8), 0.4)
    inside = (slice(16, 48), slice(16, 48), slice(None))
    np.testing.assert_array_equal(voxel_truth(dataset, 0, part), dataset.truth(0, whole)[inside])
    np.testing.assert_array_equal(sensor_mask(dataset, 0, part, ("camera",)), dataset.masks(0)["camera"][inside])
    assert scored_grid(whole.finer(2), dataset) == (whole, 2)
    np.testing.assert_array_equal(voxel_truth(dataset, 0, whole.finer(2))[::2, ::2, ::2], dataset.truth(0, whole))


def test_samples_keep_all_cameras_and_all_known_cells(sequences):
    spec, dataset = spec_of_rig("tiny", EXAMPLE), open_all(sequences)[0]
    samples = Samples([dataset], spec.voxel_grid, spec.network, mask="none")
    sample = samples.sample(0)
    size = (spec.network.image.height, spec.network.image.width)
    assert [image.shape[:2] for image in sample.frame.images] == [size] * 3
    np.testing.assert_array_equal(sample.target, dataset.truth(0, spec.voxel_grid))


def test_data_of_another_rig_is_refused(sequences, tmp_path):
    datasets, rig = open_all(sequences), read_rig(EXAMPLE)
    check_sensors(datasets, rig, class_list(rig, EXAMPLE), sequences)
    cameras = dict(reversed(rig.cameras.items()))
    with pytest.raises(DatasetError, match="cameras left, right, front, the rig file front, right, left; give the rig file that"):
        check_sensors(datasets, rig.model_copy(update={"cameras": cameras}), class_list(rig, EXAMPLE), sequences)
    with pytest.raises(DatasetError, match="is labelled with own_rig_classes, the rig file says semantickitti"):
        check_sensors(datasets, rig, "semantickitti", sequences)


def test_fit_evaluate_and_resume_on_sequences(sequences, tmp_path):
    data, run, bundle = ("--data", sequences), tmp_path / "run", tmp_path / "bundle"
    quick = ("--size", "tiny", "--threads", 1, "--set", "learning_rate=0.01", "--set", "num_workers=0")
    done = called("fit", *data, "--rig", EXAMPLE, *quick, "--steps", 24, "--bundle", bundle, "--out", run)
    assert done.exit_code == 0, (done.output, done.exception)
    spec, network, _ = load_bundle(bundle)
    assert spec.name == "minkocc-tiny-own_rig" and spec.provenance["data"]["layout"] == "occle"
    assert spec.provenance["fit"]["truth_mask"] == "none"
    assert network.shape == (64, 64, 8) and spec.network.num_cameras == 3
    assert yaml.safe_load((run / "run.yaml").read_text())["options"]["rig_file"] == str(EXAMPLE)
    done = called("evaluate", "--bundle", bundle, *data)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "obstacle" in done.output and "person" in done.output
    done = called("fit", "--resume", run)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "already finished, 24 steps" in " ".join(done.output.split())
    assert load_bundle(bundle)[0].provenance["data"] == spec.provenance["data"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--rig", "no_such.yaml"), "--rig no_such.yaml: there are kitti, nuscenes, kitti360, and no rig file"),
        ((), "has the layout occle, which is of no rig; give --rig kitti, nuscenes, kitti360 or a rig file"),
    ],
)
def test_a_rig_that_is_not_known_is_one_line(sequences, tmp_path, arguments, message):
    done = called("fit", "--data", sequences, *arguments, "--out", tmp_path / "run")
    assert done.exit_code and message in f"{done.output} {done.exception}"
