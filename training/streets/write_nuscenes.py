"""Writes a drive as part of a nuScenes dataset with Occ3D truth."""

from __future__ import annotations

from pathlib import Path

from training.streets.drive import Drive


def write_frame(folder: Path, drive: Drive, i: int) -> None:
    raise NotImplementedError


def write_sequence_files(folder: Path, drive: Drive) -> None:
    raise NotImplementedError


def publish(out: Path, folder: Path) -> str:
    raise NotImplementedError
