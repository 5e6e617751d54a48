# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recordings as occle sequences: synchronised, motion-compensated frames with poses; a killed run is resumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import DatasetError
from occle_core.datasets.recordings import sequence_files as files
from occle_core.datasets.recordings.bag import BagDataset
from occle_core.datasets.recordings.sequence import HEAD, read_json
from occle_core.output_folder import OutputError, lock_folder
from occle_core.rig import read_rig
from occle_core.rig.files import class_list
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError
from occle_train.process_pool import process_pool

ProgressCallback = Callable[[int, int], None]
SHARD_FRAMES = 100


@dataclass(frozen=True)
class Thinning:
    """Which frames of a robot that hardly moves are left out.

    Args:
        metres: a frame is kept when the robot moved so far since the last one that was kept,
        degrees: or turned so far,
        seconds: or so much time has passed. 0 keeps all frames.
    """

    metres: float = 0.1
    degrees: float = 1.0
    seconds: float = 5.0


@dataclass(frozen=True)
class PreparedSequence:
    """Result for one recording.

    Args:
        folder: the sequence.
        frames: that are in it; failed: that are not, with their reasons; still: that were thinned out.
        notes: of the recording.
    """

    folder: Path
    frames: int
    failed: tuple[str, ...]
    still: int
    notes: tuple[str, ...]


def prepare(
    bags: Sequence[Path],
    out: Path,
    rig: Path,
    thinning: Thinning = Thinning(),
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
) -> list[PreparedSequence]:
    """Write recordings as sequences `out`/NAME, in shards that appear when they are complete.

    What is there from a run that was killed is kept; the result has the same bytes as that of an undisturbed run.

    Args:
        bags: recordings with different names.
        out: folder of the sequences.
        rig: rig file of all of them.
        thinning: of stand-still frames.
        workers: processes; the result does not depend on it.
        on_progress: called with (frames done, frames in all) of a recording.

    Raises:
        DatasetError: a recording and the rig do not fit.
        OutputError: the folder holds a sequence of other input, or another process is writing it.
    """
    names = [bag.resolve().stem if bag.is_file() else bag.resolve().name for bag in bags]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OutputError(f"two recordings are called {twice[0]}; prepare them into different folders")
    return [_prepare_bag(bag, out / name, rig, thinning, workers, on_progress) for bag, name in zip(bags, names)]


def kept_frames(dataset: BagDataset, thinning: Thinning) -> list[int]:
    """Numbers of the frames that thinning keeps; those without a pose are kept."""
    kept: list[int] = []
    last: NDArray[np.float64] | None = None
    for i, stamp in enumerate(dataset.stamps):
        pose = dataset.pose(i)
        if kept and pose is not None and last is not None and thinning.seconds:
            moved = np.linalg.inv(last) @ pose
            angle = np.degrees(np.arccos(np.clip((np.trace(moved[:3, :3]) - 1) / 2, -1, 1)))
            is_still = np.linalg.norm(moved[:3, 3]) < thinning.metres and angle < thinning.degrees
            if is_still and stamp - dataset.stamps[kept[-1]] < thinning.seconds * 1e9:
                continue
        kept.append(i)
        last = pose
    return kept


def write_shard(dataset: BagDataset, folder: Path, number: int, frames: Sequence[int]) -> None:
    """Write one shard; it appears when it is complete."""
    shard, partial = folder / f"{number:05d}", folder / f".{number:05d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    written, failed = [], []
    for i in frames:
        try:
            written.append(_write_frame(dataset, partial, i))
        except (DatasetError, ConversionError) as error:
            failed.append({"number": i, "stamp": dataset.stamps[i], "reason": str(error)})
    files.write_frames(partial, written, failed)
    os.rename(partial, shard)


def _prepare_bag(
    bag: Path, folder: Path, rig_file: Path, thinning: Thinning, workers: int, on_progress: ProgressCallback | None
) -> PreparedSequence:
    dataset = BagDataset(bag, folder.name, rig_file)
    kept = kept_frames(dataset, thinning)
    shards = [kept[begin : begin + SHARD_FRAMES] for begin in range(0, len(kept), SHARD_FRAMES)]
    classes = class_list(read_rig(rig_file), rig_file) or "semantickitti"
    source = {
        "bag": folder.name,
        "scans": len(dataset),
        "first": dataset.stamps[0],
        "last": dataset.stamps[-1],
        "rig": sha256(dataset.rig.model_dump_json().encode()).hexdigest()[:16],
        "thinning": asdict(thinning),
        "frames": len(kept),
        "shards": len(shards),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder, folder):
        for left in folder.glob(".*.part*"):
            left.unlink()
        if (folder / HEAD).exists():
            if read_json(folder / HEAD).get("source") != source:
                raise OutputError(
                    f"{folder} was prepared from another recording, rig file or thinning; choose another folder, or remove it"
                )
        else:
            files.write_head(folder, dataset.rig, classes, source)
        missing = [number for number in range(len(shards)) if not (folder / f"shards/{number:05d}/frames.json").exists()]
        done = sum(len(shards[number]) for number in range(len(shards)) if number not in missing)
        with closing(_written(dataset, folder / "shards", shards, missing, workers)) as written:
            for number in written:
                done += len(shards[number])
                if on_progress:
                    on_progress(done, len(kept))
    failed = [entry for number in range(len(shards)) for entry in read_json(folder / f"shards/{number:05d}/frames.json")["failed"]]
    reasons = tuple(f"frame {entry['number']} at {entry['stamp'] / 1e9:.3f} s: {entry['reason']}" for entry in failed)
    return PreparedSequence(folder, len(kept) - len(failed), reasons, len(dataset) - len(kept), dataset.notes)


def _written(
    dataset: BagDataset, folder: Path, shards: Sequence[Sequence[int]], missing: Sequence[int], workers: int
) -> Generator[int, None, None]:
    """Numbers of the shards, each after it was written."""
    if workers == 1 or len(missing) < 2:
        for number in missing:
            write_shard(dataset, folder, number, shards[number])
            yield number
        return
    with process_pool(min(workers, len(missing))) as pool:
        jobs = [pool.submit(write_shard, dataset, folder, number, shards[number]) for number in missing]
        for number, job in zip(missing, jobs, strict=True):
            job.result()
            yield number


def _write_frame(dataset: BagDataset, shard: Path, i: int) -> dict[str, Any]:
    scan = dataset.merged_scan(i)
    if not len(scan.points):
        raise DatasetError("no point of the scan is left")
    files.write_points(shard / "points" / f"{i:06d}.npz", scan.points, scan.sensor, scan.time)
    images: dict[str, Any] = {}
    masked = dict(scan.masked)
    for name, camera in dataset.rig.cameras.items():
        found = dataset.image_message(i, name)
        if found is None:
            masked[name] = "out_of_tolerance"
            continue
        message, stamp = found
        try:
            pixels = image_from_message(message, camera.topic)  # also of a JPEG: what is damaged is found now
        except ConversionError:
            masked[name] = "unreadable_image"
            continue
        if pixels.shape[:2] != (camera.height, camera.width):
            masked[name] = "wrong_size"
            continue
        if hasattr(message, "format"):
            data = bytes(message.data)
            suffix = "png" if data.startswith(b"\x89PNG") else "jpg"
        else:
            data, suffix = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), "png"
        file = shard / name / f"{i:06d}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        images[name] = {"file": f"{name}/{file.name}", "stamp": stamp}
    pose = dataset.pose(i)
    T_world_base = None if pose is None else pose @ np.linalg.inv(dataset.T_grid_lidar)
    return {"number": i, "stamp": dataset.stamps[i], "T_world_base": T_world_base, "images": images, "masked": masked}
