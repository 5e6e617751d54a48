"""Makes drives and writes them to disk, over several processes, all or nothing per sequence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

from occle_train.streets.drive import Drive
from occle_train.streets.writing import nuscenes as write_nuscenes
from occle_train.streets.writing import semantickitti as write_semantickitti

ProgressCallback = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""


@dataclass(frozen=True)
class FrameJob:
    """A share of one drive's frames for one process to write into `folder`."""

    folder: Path
    rig: str
    seed: int
    number: int
    frames: int
    scale: float
    share: tuple[int, ...]


def simulate(
    out: Path,
    rig: str = "kitti",
    drives: int | Sequence[int] = 1,
    frames: int = 100,
    seed: int = 0,
    scale: float = 1.0,
    workers: int = 2,
    on_progress: ProgressCallback | None = None,
    every: int = 1,
) -> list[str]:
    """Simulate drives and write them in SemanticKITTI's (rig "kitti") or nuScenes+Occ3D's layout (rig "nuscenes").

    The same rig, seed, drive number, frames and scale give the same files, whatever the number of workers. A sequence appears
    under its name only when it is complete; one of the same name is replaced.

    Args:
        out: dataset folder; sequences already there stay.
        rig: "kitti" or "nuscenes".
        drives: how many drives (numbered from 0), or the numbers of the drives.
        frames: frames per drive: 10 Hz for kitti, 2 Hz for nuscenes.
        seed: chooses the streets.
        scale: image size relative to the real cameras', 0.05..2.
        workers: processes; 1 stays in this one.
        on_progress: called after every frame.
        every: write each n-th frame only, for training sets whose frames should differ; times and poses are those of all.

    Returns:
        Names of the sequences ("00", ...) or scenes ("scene-0000", ...) written.

    Raises:
        ValueError: an unknown rig, no frames, no drives, a number below 0 or a scale out of range.
    """
    numbers = list(range(drives)) if isinstance(drives, int) else [int(n) for n in drives]
    _check(rig, numbers, frames, seed, scale, workers, every)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with _temporary(out) as folder:
        places = {n: folder / f"{n:04d}" for n in numbers}
        kept = tuple(range(0, frames, every))
        jobs = [
            FrameJob(places[n], rig, seed, n, frames, scale, share)
            for n in numbers
            for share in _shares(kept, len(numbers), workers)
        ]
        done, total = 0, len(kept) * len(numbers)
        for place in places.values():
            place.mkdir()
        left = {n: len(kept) for n in numbers}
        written = []
        for job in _results(jobs, workers):
            done += len(job.share)
            left[job.number] -= len(job.share)
            if on_progress is not None:
                on_progress(done, total)
            if left[job.number] == 0:
                written.append((job.number, _publish(out, job)))
    return [name for _, name in sorted(written)]


def write_share(job: FrameJob) -> FrameJob:
    """Write a job's frames; the process that holds frame 0 writes the sequence's own files too."""
    drive = Drive(job.rig, job.seed, job.number, job.frames, job.scale)
    writer = write_semantickitti if job.rig == "kitti" else write_nuscenes
    for i in job.share:
        writer.write_frame(job.folder, drive, i)
    if 0 in job.share:
        writer.write_sequence_files(job.folder, drive)
    return job


def _results(jobs: list[FrameJob], workers: int) -> Iterator[FrameJob]:
    if workers == 1 or len(jobs) == 1:
        yield from map(write_share, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(write_share, job) for job in jobs]):
            yield future.result()


def _shares(frames: tuple[int, ...], drives: int, workers: int) -> list[tuple[int, ...]]:
    """Frames of one drive, split over processes where there are more of them than drives: in runs, since neighbours share work."""
    parts = min(len(frames), max(1, -(-workers // drives)) if workers > drives else 1)
    bounds = [round(k * len(frames) / parts) for k in range(parts + 1)]
    return [frames[a:b] for a, b in pairwise(bounds)]


def _publish(out: Path, job: FrameJob) -> str:
    """Move a finished sequence to its place."""
    if job.rig == "nuscenes":
        return write_nuscenes.publish(out, job.folder)
    name = f"{job.number:02d}"
    target = out / "sequences" / name
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(job.folder.with_suffix(".old"))
    job.folder.rename(target)
    return name


@contextmanager
def _temporary(out: Path) -> Iterator[Path]:
    """A folder beside the results that disappears whatever happens."""
    folder = Path(mkdtemp(prefix=".simulating-", dir=out))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(rig: str, numbers: list[int], frames: int, seed: int, scale: float, workers: int, every: int) -> None:
    if rig not in ("kitti", "nuscenes"):
        raise ValueError(f'no rig named "{rig}"; there are kitti and nuscenes')
    if not numbers or min(numbers) < 0 or len(set(numbers)) != len(numbers):
        raise ValueError(f"drives must be a count of at least 1, or different numbers from 0 up, not {numbers}")
    if frames < 1 or seed < 0 or workers < 1 or every < 1:
        given = f"{frames}, {workers}, {every} and {seed}"
        raise ValueError(f"frames, workers and every must be at least 1 and seed at least 0, not {given}")
    if not 0.05 <= scale <= 2:
        raise ValueError(f"scale must be between 0.05 and 2, not {scale}")
