# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checks before the first step: what would stop a training hours later, one line each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from occle_core.datasets import Dataset, DatasetError
from occle_core.networks.protocol import RigName
from occle_train.loop.run_key import TrainingSamples

RIGS: dict[str, RigName] = {"semantickitti": "kitti", "nuscenes": "nuscenes", "kitti360": "kitti360"}
"""Layout of a data set -> the rig whose volume and classes its labels have."""
COPIES = 12
"""Bytes that a run writes per byte of the weights: two checkpoints (the new one beside the old) of weights, average and AdamW's two
moments each, and bundles."""


def check_device(name: str) -> str:
    """torch's name of a device; "auto" is a GPU where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: no such device; give cpu, cuda, cuda:1 or auto") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"--device {name}: PyTorch {torch.__version__} finds no GPU; use --device cpu, or a CUDA build")
        if device.index is not None and device.index >= count:
            raise ValueError(f"--device {name}: this machine has {count} GPUs, cuda:0 to cuda:{count - 1}")
    elif device.type != "cpu":
        raise ValueError(f"--device {name}: the training runs on cpu or cuda")
    return name


def check_processes(processes: int, batch_size: int, device: str) -> None:
    """Make sure that several processes can share a batch and have a GPU each.

    Raises:
        ValueError: they cannot.
    """
    if batch_size % processes:
        raise ValueError(
            f"--processes {processes}: batch_size {batch_size} cannot be shared out evenly; set batch_size to a multiple "
            f"of {processes} (--set batch_size={processes}), or give as many processes as divide it"
        )
    if device.startswith("cuda:") and processes > 1:
        raise ValueError(f"--device {device}: {processes} processes need a GPU each; give --device cuda")
    if device == "cuda" and processes > torch.cuda.device_count():
        raise ValueError(f"--processes {processes}: this machine has {torch.cuda.device_count()} GPUs; one process needs one")


def rig_of(datasets: Sequence[Dataset], asked: RigName | None, data: Path | str) -> RigName:
    """The rig of the data: found by its layout; the one that is asked for where the layout is of no rig.

    Raises:
        DatasetError: the data is of another rig than the one that is asked for, of several, or of none.
    """
    kinds = sorted({dataset.kind for dataset in datasets})
    found = {RIGS[kind] for kind in kinds if kind in RIGS}
    if len(found) > 1:
        raise DatasetError(f"{data} holds data of several rigs ({', '.join(sorted(found))}); name the --sequences of one")
    if not found and asked is None:
        raise DatasetError(
            f"{data} has the layout {', '.join(kinds)}, which is of no rig; give --rig {', '.join(RIGS.values())} or a rig file"
        )
    rig = next(iter(found), asked)
    assert rig is not None
    if asked is not None and asked != rig:
        raise DatasetError(f"--rig {asked}: {data} has the layout {', '.join(kinds)}, which is of the rig {rig}; leave --rig out")
    return rig


def check_truth(sets: Mapping[Path, Sequence[Dataset]], index: Sequence[tuple[int, int]]) -> list[str]:
    """A line for every data set some frames of which have no voxel truth, where only frames with one are learnt from.

    Args:
        sets: data sets by their folders, in the order of `index`.
        index: (data set, frame) of the frames that are learnt from.

    Raises:
        DatasetError: a data set has no frame with a truth.
    """
    notes, first = [], 0
    for data, datasets in sets.items():
        numbers, frames = range(first, first + len(datasets)), sum(map(len, datasets))
        first += len(datasets)
        used = sum(number in numbers for number, _ in index)
        remedy = "learn from such frames as well with --config mixed (docs/how_to/recordings.md)"
        if not used:
            raise DatasetError(f"{data}: none of its {frames} frames has voxel truth; {remedy}, or leave it out")
        if used < frames:
            notes.append(f"{data}: {frames - used} of {frames} frames have no voxel truth and are left out; {remedy}")
    return notes


def check_classes(sets: Mapping[Path, Sequence[Dataset]]) -> None:
    """Make sure that all sequences of data sets are labelled with one class list.

    Raises:
        DatasetError: they are not.
    """
    names: dict[str, str] = {}
    for data, datasets in sets.items():
        for dataset in datasets:
            names.setdefault(dataset.taxonomy.name, f"{data} ({dataset.name})")
    if len(names) > 1:
        found = ", ".join(f"{where} with {name}" for name, where in names.items())
        raise DatasetError(
            f"the data sets are labelled with different class lists: {found}; give --classes FILE that names the classes of all "
            "(docs/how_to/own_classes.md), or name the sequences of one"
        )


def check_rig_classes(datasets: Sequence[Dataset], classes: str, rig: RigName) -> None:
    """Make sure that data is labelled with the classes of a known rig, which its layout does not say.

    Raises:
        DatasetError: a sequence is not.
    """
    for dataset in datasets:
        if dataset.taxonomy.name != classes:
            raise DatasetError(
                f"{dataset.name} is labelled with {dataset.taxonomy.name}, and a network of --rig {rig} predicts {classes}; give a "
                f"rig file, or --classes FILE with names of {dataset.taxonomy.name} (docs/how_to/own_classes.md)"
            )


def check_names(datasets: Sequence[Dataset], labels: Path) -> None:
    """Make sure that 2D labels, which are found by the sequence's name, belong to one sequence each.

    Raises:
        DatasetError: two sequences have the same name.
    """
    names = [dataset.name for dataset in datasets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(
            f"two data sets have a sequence {twice[0]}, and {labels} holds the labels of one {twice[0]}; rename the folder of one"
        )


def check_labels(samples: TrainingSamples, data: Path | str, items: Sequence[int] | None = None) -> None:
    """Make sure that every frame with images has 2D labels.

    Args:
        samples: the training set.
        data: where it is from, for the message.
        items: the frames that need some; None: all.

    Raises:
        DatasetError: some have none.
    """
    labels = samples.labels
    if labels is None:
        return
    lacking = []
    for number, i in samples.index if items is None else [samples.index[item] for item in items]:
        dataset = samples.datasets[number]
        cameras = [camera for camera in dataset.camera_names if dataset.image_file(i, camera) is not None]
        if cameras and not any(labels.has(dataset, i, camera) for camera in cameras):
            lacking.append(f"{dataset.name} frame {dataset.numbers[i]}")
    if lacking:
        raise DatasetError(
            f"{labels.root} has no labels of {len(lacking)} of {len(samples.index)} frames, the first: {', '.join(lacking[:3])}; "
            f"make them with occle-train label --data {data} --out {labels.root}"
        )


def check_disk(folder: Path, network: nn.Module, checkpoints: int = 1) -> None:
    """Make sure that there is room for checkpoints and bundles.

    Raises:
        OSError: there is not.
    """
    needed = COPIES * checkpoints * sum(value.numel() * value.element_size() for value in network.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{folder}: checkpoints and bundles need {needed >> 20} MiB, and {free >> 20} are free; use another --out")
