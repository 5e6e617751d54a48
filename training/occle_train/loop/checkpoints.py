# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints, from which a stopped run is resumed: checkpoint.pt in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from occle_train.loop.run_key import describe_differences, key_differences

CHECKPOINT = "checkpoint.pt"


class Checkpoint:
    """The state from which a run is resumed.

    Args:
        path: the file.
        key: what must be the same for a run to be resumed, see `run_key`.
        parts: networks, optimiser, schedule: whatever has a state_dict.
        every: steps between two checkpoints.
    """

    def __init__(self, path: Path, key: dict[str, Any], parts: dict[str, Any], every: int) -> None:
        self.path, self.key, self.parts, self.every = path, key, parts, every

    def save(self, step: int) -> None:
        """Write the state before `step`."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        fresh = self.path.with_suffix(".part")
        try:
            torch.save({"key": json.dumps(self.key), "step": step, "torch_rng": torch.get_rng_state(), **states}, fresh)
            fresh.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
            fresh.unlink(missing_ok=True)
            raise OSError(
                f"{self.path} cannot be written ({' '.join(str(error).split())[:200]}); is the disk full? An earlier one is kept"
            ) from error

    def load(self) -> int:
        """The next step: 0 where there is no checkpoint.

        Raises:
            ValueError: it was written with another key, or is damaged.
        """
        if not self.path.exists():
            return 0
        saved = read_checkpoint(self.path)
        differences = key_differences(saved["key"], self.key)
        if differences:
            raise ValueError(
                f"{self.path} was written with another configuration: {describe_differences(differences)}; resume it with the same "
                "settings and data, or start a run of its own with another --out"
            )
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["torch_rng"])
        return int(saved["step"])


def steps_done(folder: Path) -> int:
    """Steps that the training in a folder has done; 0 without a checkpoint.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    file = folder / CHECKPOINT
    return int(read_checkpoint(file)["step"]) if file.exists() else 0


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, "key" and "step" among them; code in it is not run.

    Raises:
        ValueError: the file is damaged or no checkpoint.
    """
    with path.open("rb"):  # missing, or not ours to read: an OSError that says so
        pass
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of zip, pickle, torch or a seek: what damage meets first
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is damaged ({why[:200]}); delete it to start afresh") from error
    if not isinstance(saved, dict) or not {"key", "step", "torch_rng"} <= set(saved):
        raise ValueError(f"{path} is no checkpoint of occle-train; use another --out")
    try:
        saved["key"] = json.loads(saved["key"])
    except ValueError as error:
        raise ValueError(f"{path} is a checkpoint of an older occle-train; use another --out, or delete it") from error
    return saved
