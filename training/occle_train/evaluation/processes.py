# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scoring on several workers: each counts over its share of the frames, and the counts are added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from occle_core.datasets import Dataset, DatasetError
from occle_core.predictor import Predictor
from occle_train.data.samples import listed_taxonomy, open_all
from occle_train.data.truth import TRUTHS, TruthName
from occle_train.evaluation.degraded import DEGRADATIONS, DegradeName
from occle_train.evaluation.evaluate import Measured, measure, scored_frames
from occle_train.worker_pool import Workers, mapped

SHARES = 4
"""Parts per worker: frames of some streets take longer."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to score frames.

    Args:
        bundle, engine, precision, threads: see `Predictor.load`.
        data, sequences: see `open_all`.
        truth: where the truth comes from.
        degrade: what is taken from the frames.
    """

    bundle: Path
    engine: str
    precision: str
    threads: int | None
    data: Path
    sequences: Sequence[str]
    truth: TruthName
    degrade: DegradeName = "nothing"


def evaluate_in_processes(
    job: Job, datasets: Sequence[Dataset], every: int, workers: Workers, on_progress: Callable[[int], None] = lambda count: None
) -> dict[str, Any]:
    """`evaluate`'s scores, counted by several workers. With the same threads per worker they are those of one process.

    Args:
        job: what is scored. Without `threads` the workers share the cores.
        datasets: the job's, opened here.
        every: score each n-th of a sequence's frames with a truth only.
        workers: where the work runs.
        on_progress: called with the number of frames that were scored since the last call.

    Raises:
        DatasetError: see `evaluate`.
    """
    parts = share_frames([scored_frames(dataset, TRUTHS[job.truth], every) for dataset in datasets], SHARES * workers.count)
    if not parts:
        raise DatasetError("no frame has a voxel truth; simulate one with occle-train simulate, or ask for --truth accumulated")
    job = replace(job, threads=job.threads or workers.threads)
    found: Measured | None = None
    with mapped(_measure, parts, _open, job, workers, lambda part: _name(datasets, part)) as results:
        for part, measured in zip(parts, results):
            on_progress(sum(map(len, part.values())))
            if found is None:
                found = measured
            else:
                found.merge(measured)
    assert found is not None
    return found.result()


def share_frames(frames: Sequence[Sequence[int]], parts: int) -> list[dict[int, list[int]]]:
    """Frames of data sets in about `parts` parts of about equal size, in order; frames that follow each other stay together.

    Args:
        frames: of each data set, ascending.
        parts: how many are wanted.

    Returns:
        per part the number of each data set in it and its frames.
    """
    flat = [(number, i) for number, own in enumerate(frames) for i in own]
    shares: list[dict[int, list[int]]] = []
    for part in range(min(parts, len(flat))):
        share: dict[int, list[int]] = {}
        for number, i in flat[part * len(flat) // min(parts, len(flat)) : (part + 1) * len(flat) // min(parts, len(flat))]:
            share.setdefault(number, []).append(i)
        shares.append(share)
    return shares


def _name(datasets: Sequence[Dataset], part: dict[int, list[int]]) -> str:
    """A part's first frame and number of frames, for messages."""
    number, frames = next(iter(part.items()))
    first = f"{datasets[number].name}, frame {datasets[number].numbers[frames[0]]}"
    count = sum(map(len, part.values()))
    return first if count == 1 else f"{first} and {count - 1} after it"


Opened = tuple[Job, Predictor, list[Dataset]]


def _open(job: Job) -> Opened:
    if job.threads:
        torch.set_num_threads(job.threads)
    predictor = Predictor.load(job.bundle, job.engine, job.precision, job.threads)
    return job, predictor, open_all(job.data, job.sequences, listed_taxonomy(predictor.spec))


def _measure(opened: Opened, part: dict[int, list[int]]) -> Measured:
    job, predictor, datasets = opened
    found = measure(predictor, datasets, part, TRUTHS[job.truth], degrade=DEGRADATIONS[job.degrade])
    found.scores.release()
    return found
