# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checks before the first step: one line each, with the remedy."""

import numpy as np
import pytest
import torch
from occle_train.commands import training
from occle_train.commands.training import opened_run
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.runs import checks
from occle_train.runs.checks import (
    check_classes,
    check_device,
    check_disk,
    check_labels,
    check_processes,
    check_rig_classes,
    rig_of,
)
from occle_train.runs.folder import RunOptions
from rooms import GRID, NETWORK, Rooms, label_folder, spec

from occle_core import taxonomy
from occle_core.datasets import DatasetError, voxels


class Layout(Rooms):
    def __init__(self, kind):
        super().__init__("a")
        self.kind = kind


def test_devices(monkeypatch):
    assert check_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check_device("auto") == "cpu"
    for name, message in (("cuda", "finds no GPU"), ("gpu", "no such device; give cpu"), ("meta", "runs on cpu or cuda")):
        with pytest.raises(ValueError, match=rf"--device {name}: .*{message}"):
            check_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("auto") == "cuda" and check_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="has 2 GPUs, cuda:0 to cuda:1"):
        check_device("cuda:2")


def test_processes_share_a_batch_and_have_a_gpu_each(monkeypatch):
    check_processes(2, 4, "cpu")
    with pytest.raises(ValueError, match=r"batch_size 4 cannot be .*--set batch_size=3"):
        check_processes(3, 4, "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="has 1 GPUs"):
        check_processes(2, 4, "cuda")
    check_processes(1, 4, "cuda:1")
    with pytest.raises(ValueError, match="--device cuda:1: 2 processes need a GPU each"):
        check_processes(2, 4, "cuda:1")


def test_the_rig_is_found_by_the_layout(tmp_path):
    assert rig_of([Layout("nuscenes")], None, tmp_path) == "nuscenes"
    assert rig_of([Layout("semantickitti")], "kitti", tmp_path) == "kitti"
    assert rig_of([Layout("rooms")], "kitti360", tmp_path) == "kitti360"
    with pytest.raises(DatasetError, match=r"--rig nuscenes: .*, which is of the rig kitti; leave --rig"):
        rig_of([Layout("semantickitti")], "nuscenes", tmp_path)
    with pytest.raises(DatasetError, match="several rigs"):
        rig_of([Layout("semantickitti"), Layout("nuscenes")], None, tmp_path)
    with pytest.raises(DatasetError, match="has the layout rooms, which is of no rig; give --rig"):
        rig_of([Layout("rooms")], None, tmp_path)


def test_labels_that_are_missing_are_counted(tmp_path):
    rooms = [Rooms("a"), Rooms("b")]
    labels = label_folder(tmp_path / "labels", rooms)
    recipe = MinkOccRecipeConfig(past_scans=1, moving_points="keep")
    samples = RecipeSamples(rooms, GRID, NETWORK, recipe, labels, tmp_path / "cache")
    check_labels(samples, tmp_path / "data")
    for file in sorted((tmp_path / "labels").rglob("00[01].png"))[:3]:
        file.unlink()
    with pytest.raises(DatasetError, match=r"no labels of 3 of 6 frames, the first: a frame 0, a frame 1, b frame 0; make"):
        check_labels(samples, tmp_path / "data")


def test_a_full_disk_is_found_before_the_first_checkpoint(tmp_path, monkeypatch):
    network = spec().build()
    check_disk(tmp_path, network)
    usage = checks.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(OSError, match="checkpoints and bundles need"):
        check_disk(tmp_path, network)


def test_every_sequence_has_the_same_class_list(tmp_path):
    """Not only the first of a folder: ids of another list would be taken for classes of this one."""
    street, hall = Rooms("a"), Rooms("b")
    hall.taxonomy = taxonomy.load("warehouse")
    check_classes({tmp_path: [street, Rooms("c")]})
    for sets in ({tmp_path: [street, hall]}, {tmp_path / "x": [street], tmp_path / "y": [hall]}):
        with pytest.raises(DatasetError, match=r"different class lists: .*\(a\) with semantickitti, .*\(b\) with warehouse; give"):
            check_classes(sets)
    check_rig_classes([street], "semantickitti", "kitti")
    with pytest.raises(DatasetError, match=r"b is labelled with warehouse, and a network of --rig kitti predicts semantickitti"):
        check_rig_classes([street, hall], "semantickitti", "kitti")


def test_a_bundle_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    (tmp_path / "out" / "streets").mkdir(parents=True)
    options = RunOptions(bundle=tmp_path / "out")
    with (
        pytest.raises(ValueError, match="out is a folder that holds streets"),
        opened_run(options, {}, None, "x", tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"camera_names": ("cam", "rear")}, "--validation .*: a has 2 cameras, the network 1; give"),
        ({"taxonomy": taxonomy.load("warehouse")}, "labelled with warehouse, the training with semantickitti"),
        ({"truth": lambda i, grid: voxels.resample(np.zeros(GRID.shape, np.uint8), GRID, grid, GRID)}, "does not line up"),
    ],
)
def test_a_validation_that_could_not_be_scored_is_found_before_the_first_step(tmp_path, monkeypatch, change, said):
    rooms = Rooms("a")
    vars(rooms).update(change)
    monkeypatch.setattr(training, "open_all", lambda *given: [rooms])
    coarse = spec().model_copy(update={"grid": spec().grid.model_copy(update={"origin": (0.1, -6.4, -2.0)})})
    run = training.Run(tmp_path, RunOptions(validation=tmp_path, data=(tmp_path / "data",)), {}, False)
    with pytest.raises(ValueError, match=said):
        training.validation_slice(run, coarse, False)
    vars(rooms).clear()
    vars(rooms).update(vars(Rooms("a")))
    assert len(training.validation_slice(run, coarse, False).frames) == 3
