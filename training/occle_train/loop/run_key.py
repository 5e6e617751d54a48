# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Run key: everything that changes a training's result. A run is resumed with the same key only; provenance is written from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from occle_core.bundle import BundleSpec, weights_digest
from occle_core.config import Config
from occle_core.datasets import Dataset
from occle_train.pseudo_labels.label_folder import label_file

UNRELATED = {"num_workers", "checkpoint_every", "recompute"}
"""Settings that change no result: a run can be resumed with other values."""
HASHED_FRAMES = 16
"""Frames whose files and labels are hashed whole; of all others the sizes of the files are."""
NAMED = 4
"""Differences that an error names."""


class TrainingSamples(Protocol):
    """A training set: frames of data sets, and the labels that are used."""

    datasets: list[Dataset]
    index: Any
    labels: Any

    def provenance(self) -> Any:
        """The labels that are used."""

    def labelled(self) -> Sequence[int]:
        """Numbers of the frames whose voxel labels are used."""

    def truth(self, item: int) -> Any:
        """Voxel labels of a frame."""


def run_key(spec: BundleSpec, samples: TrainingSamples, config: Config, initial: nn.Module | None) -> dict[str, Any]:
    """Everything that changes the result of a training.

    Args:
        spec: the network, its grid and classes.
        samples: the frames and their labels.
        config: the settings.
        initial: the network whose weights the training starts from.

    Returns:
        plain JSON: "network", "data", "labels", "started_from" and "fit".
    """
    key = {
        "network": spec.model_copy(update={"provenance": {}}).model_dump(mode="json"),
        "data": {
            "layout": ", ".join(sorted({dataset.kind for dataset in samples.datasets})),
            "sequences": [dataset.name for dataset in samples.datasets],
            "frames": len(samples.index),
            "files": _files_digest(samples),
            "voxel_labels": _truth_digest(samples),
            "pseudo_labels": _labels_digest(samples),
        },
        "labels": samples.provenance(),
        "started_from": None if initial is None else weights_digest(spec, initial)[:12],
        "fit": config.model_dump(mode="json", exclude=UNRELATED),
    }
    plain: dict[str, Any] = json.loads(json.dumps(key))
    return plain


def provenance_of(key: dict[str, Any]) -> dict[str, Any]:
    """Provenance of a bundle: the run's key but for the network, which the bundle holds anyway."""
    return {name: value for name, value in key.items() if name != "network"}


def key_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences of two keys, in words: `fit.seed was 0, is 5`."""
    one, other = flatten(before), flatten(now)
    return [
        f"{name} was {_shown(one.get(name))}, is {_shown(other.get(name))}"
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]


def describe_differences(differences: Sequence[str]) -> str:
    """The first few differences in one line."""
    more = f" and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
    return "; ".join(differences[:NAMED]) + more


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested names and values with dotted names: {"fit": {"seed": 0}} -> {"fit.seed": 0}; lists stay whole."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    parts = (flatten(entry, f"{name}.{key}" if name else str(key)) for key, entry in value.items())
    return {key: entry for part in parts for key, entry in part.items()}


def _shown(value: Any) -> str:
    text = json.dumps(value) if value is not None else "not set"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _drawn(items: Sequence[int]) -> list[int]:
    """At most HASHED_FRAMES of the items, evenly."""
    if not len(items):
        return []
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, HASHED_FRAMES).round().astype(int)).tolist()]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _files_digest(samples: TrainingSamples) -> str:
    digest = hashlib.sha256()
    for number, i in samples.index:
        digest.update(f"{number} {i} {[_size(file) for file in samples.datasets[number].files(i)]}".encode())
    for item in _drawn(range(len(samples.index))):
        number, i = samples.index[item]
        for file in samples.datasets[number].files(i):
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]


def _truth_digest(samples: TrainingSamples) -> str:
    digest = hashlib.sha256(str(list(samples.labelled())).encode())
    for item in _drawn(samples.labelled()):
        digest.update(np.ascontiguousarray(samples.truth(item)).tobytes())
    return digest.hexdigest()[:12]


def _labels_digest(samples: TrainingSamples) -> str | None:
    labels = samples.labels
    if labels is None:
        return None
    digest = hashlib.sha256()
    for number, i in samples.index:
        dataset = samples.datasets[number]
        sizes = [
            _size(label_file(labels.root, dataset, i, camera))
            for camera in dataset.camera_names
            if dataset.image_file(i, camera) is not None
        ]
        digest.update(f"{number} {i} {sizes}".encode())
    return digest.hexdigest()[:12]
