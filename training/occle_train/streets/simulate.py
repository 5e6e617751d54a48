# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Makes drives and writes them to disk, over several processes, all or nothing per sequence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp
from typing import get_args

from occle_core import taxonomy
from occle_core.datasets.registry import layout_of
from occle_core.rig import Rig
from occle_core.taxonomy import TaxonomyConfig
from occle_train.process_pool import process_pool
from occle_train.streets.drive import Drive
from occle_train.streets.scenes.scene import SceneKind
from occle_train.streets.sensors.described_rig import check_rig
from occle_train.streets.writing import nuscenes as write_nuscenes
from occle_train.streets.writing import nuscenes_tables
from occle_train.streets.writing import semantickitti as write_semantickitti
from occle_train.streets.writing import sequence as write_sequence

ProgressCallback = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""


@dataclass(frozen=True)
class DriveSettings:
    """What the drives of a simulation have in common, see `simulate`."""

    rig: str | Rig
    frames: int
    every: int
    seed: int
    scale: float
    classes: str | TaxonomyConfig
    scenes: tuple[SceneKind, ...]

    def drive(self, number: int) -> Drive:
        """A drive by its number; the kinds of places take turns."""
        return Drive(self.rig, self.seed, number, self.frames, self.scale, self.scenes[number % len(self.scenes)])

    def check(self) -> None:
        """Make sure that such drives can be simulated.

        Raises:
            RigError: the rig file lacks a pose, a lens, beams or the grid.
            ValueError: an unknown rig or scene, no frames, or a number out of range.
        """
        check_scenes(self.rig, self.scenes)
        if isinstance(self.rig, Rig):
            check_rig(self.rig)
            for kind in self.scenes:
                write_sequence.class_table(taxonomy.load(self.classes), kind)
        elif self.rig not in ("kitti", "nuscenes"):
            raise ValueError(f'no rig named "{self.rig}"; there are kitti and nuscenes, or give a rig file')
        if self.frames < 1 or self.every < 1 or self.seed < 0:
            given = f"{self.frames}, {self.every} and {self.seed}"
            raise ValueError(f"frames and every must be at least 1 and seed at least 0, not {given}")
        if not 0.05 <= self.scale <= 2:
            raise ValueError(f"scale must be between 0.05 and 2, not {self.scale}")


@dataclass(frozen=True)
class FrameJob:
    """A share of one drive's frames for one process to write into `folder`."""

    folder: Path
    settings: DriveSettings
    number: int
    share: tuple[int, ...]


def simulate(
    out: Path,
    rig: str | Rig = "kitti",
    drives: int | Sequence[int] = 1,
    frames: int = 100,
    seed: int = 0,
    scale: float = 1.0,
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
    every: int = 1,
    classes: str | TaxonomyConfig = "semantickitti",
    scenes: Sequence[SceneKind] = ("street",),
) -> list[str]:
    """Simulate drives: rig "kitti" in SemanticKITTI's layout, "nuscenes" in nuScenes+Occ3D's, a rig file's as occle sequences.

    The same rig, seed, drive number, frames, scale and kind of scene give the same files, whatever the number of workers. A
    sequence appears under its name only when it is complete; one of the same name is replaced.

    Args:
        out: dataset folder; sequences already there stay.
        rig: "kitti", "nuscenes", or a rig file's.
        drives: how many drives (numbered from 0), or the numbers of the drives.
        frames: frames per drive: 10 Hz for kitti, 2 Hz for nuscenes, the leading LiDAR's rate for a rig file.
        seed: chooses the places.
        scale: image size relative to the real cameras', 0.05..2.
        workers: processes; 1 stays in this one. A script that asks for more needs `if __name__ == "__main__":`, as they import it.
        on_progress: called after every frame.
        every: write each n-th frame only, for training sets whose frames should differ; times and poses are those of all.
        classes: class list of the labels, for a rig file.
        scenes: kinds of places, which the drives take in turn by their numbers; halls and yards need a rig file's rig.

    Returns:
        Names of the sequences ("00", ...) or scenes ("scene-0000", ...) written.

    Raises:
        RigError: the rig file lacks a pose, a lens, beams or the grid.
        ValueError: an unknown rig or scene, no frames, no drives, a number below 0 or a scale out of range; `out` holds a data set
            of another layout, or recordings that would be replaced.
    """
    numbers = list(range(drives)) if isinstance(drives, int) else [int(n) for n in drives]
    if not numbers or min(numbers) < 0 or len(set(numbers)) != len(numbers):
        raise ValueError(f"drives must be a count of at least 1, or different numbers from 0 up, not {numbers}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    settings = DriveSettings(rig, frames, every, seed, scale, classes, tuple(scenes))
    settings.check()
    out = Path(out)
    layout, there = "occle" if isinstance(rig, Rig) else {"kitti": "semantickitti"}.get(rig, rig), layout_of(out)
    if there not in (None, layout):
        raise ValueError(
            f"{out} holds a data set of another layout, {there}, beside which {layout} would not be found; choose another folder"
        )
    for place in _recorded(out, rig, numbers):
        raise ValueError(f"{place} was not simulated, and would be replaced or mixed with simulated drives; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    with _temporary(out) as folder:
        places = {n: folder / f"{n:04d}" for n in numbers}
        kept = tuple(range(0, frames, every))
        jobs = [FrameJob(places[n], settings, n, share) for n in numbers for share in _shares(kept, len(numbers), workers)]
        done, total = 0, len(kept) * len(numbers)
        for place in places.values():
            place.mkdir()
        left = {n: len(kept) for n in numbers}
        written = []
        with closing(_results(jobs, workers)) as results:
            for job in results:
                done += len(job.share)
                left[job.number] -= len(job.share)
                if on_progress is not None:
                    on_progress(done, total)
                if left[job.number] == 0:
                    written.append((job.number, _publish(out, job)))
    return [name for _, name in sorted(written)]


def check_scenes(rig: str | Rig, scenes: Sequence[str]) -> None:
    """Make sure that scenes exist and fit a rig.

    Raises:
        ValueError: they do not.
    """
    known = get_args(SceneKind)
    unknown = sorted(set(scenes) - set(known))
    if unknown or not scenes:
        raise ValueError(f"no scene is called {', '.join(unknown) or 'nothing'}; there are {', '.join(known)}")
    if isinstance(rig, str) and set(scenes) != {"street"}:
        raise ValueError(
            f"{rig}'s layout holds streets only; for halls and yards give a rig file, such as examples/indoor_rig/rig.yaml"
        )


def write_share(job: FrameJob) -> FrameJob:
    """Write a job's frames; the process that holds frame 0 writes the sequence's own files too."""
    drive, rig, classes = job.settings.drive(job.number), job.settings.rig, job.settings.classes
    if not isinstance(rig, str):
        for i in job.share:
            write_sequence.write_frame(job.folder, drive, i, rig, classes)
        if 0 in job.share:
            write_sequence.write_sequence_files(job.folder, drive, rig, job.settings.scale, classes)
        return job
    writer = write_semantickitti if rig == "kitti" else write_nuscenes
    for i in job.share:
        writer.write_frame(job.folder, drive, i)
    if 0 in job.share:
        writer.write_sequence_files(job.folder, drive)
    return job


def _results(jobs: list[FrameJob], workers: int) -> Generator[FrameJob, None, None]:
    if workers == 1 or len(jobs) == 1:
        yield from map(write_share, jobs)
        return
    with process_pool(min(workers, len(jobs))) as pool:
        for future in as_completed([pool.submit(write_share, job) for job in jobs]):
            yield future.result()


def _shares(frames: tuple[int, ...], drives: int, workers: int) -> list[tuple[int, ...]]:
    """Frames of one drive, split over processes where there are more of them than drives: in runs, since neighbours share work."""
    parts = min(len(frames), max(1, -(-workers // drives)) if workers > drives else 1)
    bounds = [round(k * len(frames) / parts) for k in range(parts + 1)]
    return [frames[a:b] for a, b in pairwise(bounds)]


def _publish(out: Path, job: FrameJob) -> str:
    """Move a finished sequence to its place."""
    rig = job.settings.rig
    if rig == "nuscenes":
        return write_nuscenes.publish(out, job.folder)
    target = _sequence(out, rig, job.number)
    if not isinstance(rig, str):
        write_sequence.finish(job.folder)
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(job.folder.with_suffix(".old"))
    job.folder.rename(target)
    return target.name


def _sequence(out: Path, rig: str | Rig, number: int) -> Path:
    """Folder of a drive, but for nuScenes."""
    return out / "sequences" / f"{number:02d}" if rig == "kitti" else out / f"{number:02d}"


def _recorded(out: Path, rig: str | Rig, numbers: Sequence[int]) -> Iterator[Path]:
    """What is in the way of drives and is not the simulator's."""
    if rig == "nuscenes":
        tables = out / nuscenes_tables.VERSION
        if tables.exists() and not write_nuscenes.is_simulated(out):
            yield tables
        return
    for target in (_sequence(out, rig, number) for number in numbers):
        simulated = (target / "semantic_2").is_dir() if rig == "kitti" else write_sequence.is_simulated(target)
        if target.exists() and not simulated:
            yield target


@contextmanager
def _temporary(out: Path) -> Iterator[Path]:
    """A folder beside the results that disappears whatever happens."""
    folder = Path(mkdtemp(prefix=".simulating-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
