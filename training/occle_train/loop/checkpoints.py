"""Checkpoints and logs, from which a stopped run is resumed: checkpoint.pt and log.csv in its folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from occle_core.atomic_file import atomic_write

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"


class Checkpoint:
    """The state from which a run is resumed.

    Args:
        path: the file.
        key: what must be the same for a run to be resumed.
        parts: networks, optimiser, schedule: whatever has a state_dict.
    """

    def __init__(self, path: Path, key: str, parts: dict[str, Any]) -> None:
        self.path, self.key, self.parts = path, key, parts

    def save(self, step: int) -> None:
        """Write the state before `step`."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        fresh = self.path.with_suffix(".part")
        try:
            torch.save({"key": self.key, "step": step, "torch_rng": torch.get_rng_state(), **states}, fresh)
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
        if saved["key"] != self.key:
            raise ValueError(f"{self.path} was written with another configuration; use another --out, or delete it to start afresh")
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["torch_rng"])
        return int(saved["step"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint; code in it is not run.

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
    return saved


class LossLog:
    """log.csv: a row per step; rows after the checkpoint that a run is resumed from are dropped.

    Args:
        path: the file; None writes nothing, as processes other than the first do.
        losses: their names, the columns.
        first: the step that the run continues with.
    """

    def __init__(self, path: Path | None, losses: Sequence[str], first: int) -> None:
        self.losses = losses
        self._file = None
        if path is not None:
            rows = list(csv.reader(path.open()))[1 : first + 1] if first and path.exists() else []
            with atomic_write(path) as temporary, temporary.open("w", newline="") as fresh:
                csv.writer(fresh).writerows([("step", *losses, "seconds"), *rows])
            self._file = path.open("a", newline="")
            self._writer = csv.writer(self._file)

    def row(self, step: int, losses: dict[str, float], seconds: float) -> None:
        """Add a step."""
        if self._file is not None:
            self._writer.writerow((step, *(f"{losses[name]:.5f}" for name in self.losses), f"{seconds:.3f}"))
            self._file.flush()

    def __enter__(self) -> LossLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
