"""`occle-train fit`: MinkOcc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, load_bundle, rig_spec, save_bundle, spec_for
from occle_core.frame import FrameError
from occle_core.networks.minkocc.inputs import MinkOccInputs, prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.taxonomy import TaxonomyConfig, read_classes
from occle_train.commands.common import (
    RigChoice,
    Size,
    console,
    describe_dataset,
    load_kernels,
    parse_config,
    path_option,
    progress_bar,
    read_yaml,
    resolve_device,
    software_versions,
    split_names,
)
from occle_train.data.samples import Samples, open_all
from occle_train.loop.checkpoints import LOG
from occle_train.loop.curves import draw_curve
from occle_train.loop.parallel import join_process_group
from occle_train.minkocc.fit import FitConfig, fit, minkocc_config
from occle_train.minkocc.free_bias import add_free_bias, choose_free_bias
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.pseudo_labels.label_folder import LabelFolder

FREE_BIAS_FRAMES = 100
"""Largest number of labelled frames that the free class's bias is measured on."""


def fit_command(
    data: Annotated[Path, path_option("data set root with voxel truth")],
    bundle: Annotated[Path, path_option("bundle to write at the end")],
    out: Annotated[Path, path_option("folder of checkpoint, log and curve; a run that was stopped is resumed from here")] = Path(
        "out/fit"
    ),
    rig: Annotated[RigChoice, typer.Option(help="which volume and class list")] = RigChoice.kitti,
    size: Annotated[Size, typer.Option(help="network size")] = Size.small,
    classes: Annotated[Path | None, path_option("YAML file with a class list of your own, instead of the rig's")] = None,
    finer: Annotated[int, typer.Option(min=1, help="cells this many times smaller than 0.4 m: 2 for 0.2 m, 4 for 0.1 m")] = 1,
    config: Annotated[Path | None, path_option("YAML file with values of FitConfig, such as config/training/*.yaml")] = None,
    labels: Annotated[Path | None, path_option("2D pseudo-labels of a recipe: what label wrote, or label images")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps, instead of the configuration's")] = None,
    seed: Annotated[int | None, typer.Option(help="seed, instead of the configuration's")] = None,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    start_from: Annotated[Path | None, path_option("bundle whose weights to start from where they fit")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
    processes: Annotated[int, typer.Option(min=1, help="processes that share every batch, one per GPU")] = 1,
) -> None:
    """Train on labelled voxels, or by the recipe of the configuration, and write a bundle.

    Example: occle-train fit --data out/streets --bundle out/bundle --steps 4000
    """
    settings = settings_of(config, steps, seed)
    if settings.batch_size % processes:
        raise ValueError(
            f"--processes {processes}: batch_size {settings.batch_size} cannot be shared out evenly; set batch_size to a multiple "
            f"of {processes} in --config, or give as many processes as divide it"
        )
    if processes > 1 and "RANK" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        raise typer.Exit(subprocess.run([*torchrun, "-m", "occle_train.cli", *sys.argv[1:]]).returncode)
    if threads:
        torch.set_num_threads(threads)
    own = read_classes(classes) if classes else None
    spec = _spec(size, rig, finer, own)
    sizes = minkocc_config(spec)
    datasets = open_all(data, split_names(sequences), taxonomy.load(own) if own else None)
    if "RANK" not in os.environ or os.environ["RANK"] == "0":
        console.print(describe_dataset(data, datasets), highlight=False)
    memory = 4.0 / max(1, settings.num_workers)
    if settings.recipe:
        folder = LabelFolder(labels, taxonomy.load(spec.taxonomy)) if labels else None
        cache = out / "accumulated"
        samples: Samples = RecipeSamples(
            datasets, spec.voxel_grid, sizes, settings.recipe, folder, cache, memory, settings.truth_mask
        )
    else:
        samples = Samples(datasets, spec.voxel_grid, sizes, memory, settings.truth_mask)
    settings = settings.for_frames(len(samples))
    initial = load_bundle(start_from)[1] if start_from else None
    if initial is not None and not isinstance(initial, MinkOcc):
        raise ValueError(f"{start_from} holds no MinkOcc network; start from another bundle")
    with join_process_group(resolve_device(device)) as (group, place):
        console.quiet = group.rank > 0
        load_kernels(place)
        console.print(
            f"{spec.name}: {len(samples)} frames of {len(datasets)} sequences, {len(samples.warm)} with voxel labels, "
            f"{settings.steps} steps on {group.size} x {place}, log in {out / LOG}"
        )
        with progress_bar("{task.fields[loss]}") as bar:
            task = bar.add_task("training", total=settings.steps, loss="")

            def on_step(step: int, losses: dict[str, float]) -> None:
                bar.update(task, completed=step + 1, loss=" ".join(f"{name} {value:.3f}" for name, value in losses.items()))

            network = fit(spec, samples, settings, out, place, on_step, initial, group)
        if group.rank:
            return
    draw_curve(out / LOG, out / "curve.png", spec.name)
    provenance = {
        "data": {
            "root": data.name,
            "layout": rig.value,
            "sequences": [dataset.name for dataset in datasets],
            "frames": len(samples),
        },
        "labels": samples.provenance() if isinstance(samples, RecipeSamples) else "voxel truth of every frame",
        "started_from": load_bundle(start_from)[2] if start_from else None,
        "fit": settings.model_dump(mode="json"),
        "free_bias": _free_bias(network, spec, samples),
        **software_versions(),
    }
    save_bundle(bundle, spec.model_copy(update={"provenance": provenance}), network)
    console.print(f"wrote {bundle}; measure it: occle-train evaluate --bundle {bundle} --data DIR")


def _free_bias(network: MinkOcc, spec: BundleSpec, samples: Samples) -> float:
    """Measure how strong the free class is to be, and put it into the weights."""
    frames = samples.warm[:: max(1, len(samples.warm) // FREE_BIAS_FRAMES)]
    free = taxonomy.load(spec.taxonomy).free
    bias = choose_free_bias(network, _prepared(spec, samples, frames), free)
    add_free_bias(network, free, bias)
    return bias


def _prepared(spec: BundleSpec, samples: Samples, frames: Sequence[int]) -> Iterator[tuple[MinkOccInputs, NDArray[np.uint8]]]:
    """Inputs and labels of the frames that a network can use."""
    for item in frames:
        try:
            inputs = prepare(samples.frame(item), spec.voxel_grid, minkocc_config(spec))
        except FrameError:
            continue  # the training has named it
        yield inputs, samples.truth(item)


def settings_of(config: Path | None, steps: int | None, seed: int | None) -> FitConfig:
    """A configuration file's values with those of the command line."""
    content = read_yaml(config)
    if steps is not None:
        content.pop("epochs", None)
    content.update({name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None})
    return parse_config(FitConfig, content, config)


def _spec(size: Size, rig: RigChoice, finer: int, classes: TaxonomyConfig | None) -> BundleSpec:
    """The spec of a network size, on cells `finer` times smaller than its own."""
    spec = rig_spec(size.value, rig.value, classes=classes)
    if finer == 1:
        return spec
    return spec_for(spec.network, spec.voxel_grid.finer(finer), spec.taxonomy, f"{spec.name}-{finer}x")
