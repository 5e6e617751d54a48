# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train targets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_core import taxonomy
from occle_core.networks.protocol import Size
from occle_core.taxonomy import read_classes
from occle_train.commands import options as opt
from occle_train.commands import training
from occle_train.commands.common import console, path_option, progress_bar
from occle_train.commands.fit import known_rig_or_file, run_spec, settings_of
from occle_train.minkocc.described_rig import own_classes
from occle_train.minkocc.fit import minkocc_config
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.weak_targets import write_weak_targets
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.runs.folder import RunOptions
from occle_train.worker_pool import find_workers


def targets(
    out: Annotated[Path, path_option("folder of weak targets, for fit's --targets; those that are there are left out")],
    config: Annotated[str, typer.Option(help="the training's configuration: a YAML file, or the name of a shipped one")],
    data: opt.Data = None,
    labels: opt.Labels = None,
    sequences: opt.Sequences = None,
    rig: Annotated[str | None, typer.Option(help="as the training's --rig", metavar="RIG")] = None,
    size: Annotated[Size | None, typer.Option(help="as the training's --size")] = None,
    classes: Annotated[Path | None, path_option("as the training's --classes")] = None,
    finer: Annotated[int | None, typer.Option(min=1, help="as the training's --finer")] = None,
    assignments: opt.Set = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes that share the frames")] = None,
    ray: opt.Ray = None,
) -> None:
    """Make the weak targets of MinkOcc's recipe before a training, which then only reads them; a stopped run is resumed.

    Data, labels, sequences, rig, size, finer and configuration are those of the training; trainings that differ in their labelled
    frames alone share targets.

    Example: occle-train targets --data data/nuscenes --labels out/labels --config minkocc_10_paper --size base --out out/targets
    """
    found_workers = find_workers(workers, ray, "cpu")
    rig_name, rig_file = known_rig_or_file(rig)
    own = read_classes(classes) if classes else own_classes(rig_file) if rig_file else None
    options = RunOptions(
        data=tuple(data or ()), sequences=sequences, labels=labels, rig=rig_name, rig_file=rig_file, size=size, classes=own,
        finer=finer, targets=out,
    )  # fmt: skip
    settings = settings_of(config, assignments or [], {})
    if settings.recipe is None or settings.recipe.switch_step(100) == 100:
        raise ValueError(f"--config {config}: its training has no weak phase, and needs no weak targets")
    run = training.Run(out, options, {}, False)
    datasets = [dataset for found in training.open_data(run, taxonomy.load(own) if own else None).values() for dataset in found]
    spec = run_spec(run, datasets)
    folder = LabelFolder(labels, taxonomy.load(spec.taxonomy)) if labels else None
    samples = RecipeSamples(datasets, spec.voxel_grid, minkocc_config(spec), settings.recipe, folder, out, memory=0)
    with progress_bar() as bar:
        task = bar.add_task("making targets", total=len(samples.weak_items()))
        done = write_weak_targets(samples, lambda count: bar.advance(task, count), found_workers)
    console.print(f"{done[0]} weak targets made, {done[1]} were there, in {out}", soft_wrap=True)
