# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from occle_core.atomic_file import write_json
from occle_core.predictor import Predictor
from occle_train.commands import options as opt
from occle_train.commands.common import console, path_option, progress_bar, split_names
from occle_train.data.samples import listed_taxonomy, open_all
from occle_train.data.truth import TRUTHS, TruthName
from occle_train.evaluation import evaluate as scoring
from occle_train.evaluation.degraded import DEGRADATIONS, DegradeName
from occle_train.evaluation.processes import Job, evaluate_in_processes
from occle_train.evaluation.terminal_tables import score_table
from occle_train.worker_pool import find_workers


def evaluate(
    bundle: Annotated[Path, path_option("bundle folder, or the name of a shipped one")],
    data: Annotated[Path, path_option("data set root, sequence folder or extract")],
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    truth: Annotated[TruthName, typer.Option(help="recorded voxels, or accumulated from labelled scans and poses")] = "recorded",
    every: Annotated[int, typer.Option(min=1, help="score each n-th frame that has a truth")] = 1,
    json_file: Annotated[Path | None, path_option("also write the scores here", "--json")] = None,
    engine: Annotated[str, typer.Option(help="what runs the network, see occle-train export")] = "torch",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads, of each process")] = None,
    degrade: Annotated[
        DegradeName, typer.Option(help="take this from every frame, to measure what it gives: images, colours or intensity")
    ] = "nothing",
    processes: Annotated[int | None, typer.Option(min=1, help="processes that share the frames; the scores are one's")] = None,
    ray: opt.Ray = None,
) -> None:
    """Completion IoU, mIoU and per-class IoU of a bundle, with the plain voxelised scan beside it.

    Example: occle-train evaluate --bundle config/bundles/kitti --data out/validation
    """
    workers = find_workers(processes, ray)
    predictor = Predictor.load(bundle, engine, precision, threads, console.print)
    datasets = open_all(data, split_names(sequences), listed_taxonomy(predictor.spec))
    with progress_bar() as bar:
        count = sum(len(scoring.scored_frames(dataset, TRUTHS[truth], every)) for dataset in datasets)
        task = bar.add_task("evaluating", total=count)
        if workers.alone:
            scores = scoring.evaluate(
                predictor, datasets, TRUTHS[truth], every, lambda name, i: bar.advance(task), DEGRADATIONS[degrade]
            )
        else:
            job = Job(bundle, engine, precision, threads, data, split_names(sequences), truth, degrade)
            scores = evaluate_in_processes(job, datasets, every, workers, lambda count: bar.advance(task, count))
    console.print(score_table(scores, predictor.taxonomy, predictor.bundle_id))
    if json_file:
        content = {
            "bundle": predictor.bundle_id,
            "voxel_size": predictor.grid.resolution,
            "alpha": _alpha(predictor.spec.provenance),
            "degrade": degrade,
        }
        write_json(json_file, {**content, "memory_gb": _memory(), **scores})


def _alpha(provenance: dict[str, Any]) -> float | None:
    """Share of the voxel labels that MinkOcc's recipe was given; None where the provenance does not say."""
    labels = provenance.get("labels")
    voxels = labels.get("voxel_labels") if isinstance(labels, dict) else None
    found = voxels.get("alpha") if isinstance(voxels, dict) else None
    every = isinstance(labels, str) and labels.startswith("voxel truth of every frame")
    return float(found) if found is not None else 1.0 if every else None


def _memory() -> float | None:
    """Peak of PyTorch's allocator on the GPU, GB; None without one."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
