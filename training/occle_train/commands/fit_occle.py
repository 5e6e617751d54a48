"""`occle-train fit-occle`: OccLE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import Field

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, load_bundle, rig_spec, save_bundle
from occle_core.config import Config
from occle_core.networks.occle.config import OccleConfig
from occle_core.networks.occle.network import OccLE
from occle_core.networks.protocol import RigName, Size
from occle_train.commands.common import (
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
from occle_train.data.samples import open_all
from occle_train.loop.checkpoints import LOG
from occle_train.occle.fit import fit_occle
from occle_train.occle.phases import OccleRecipeConfig, Phase
from occle_train.occle.samples import OccleSamples
from occle_train.pseudo_labels.label_folder import LabelFolder


class OccleRun(Config):
    """The contents of config/training/occle_*.yaml."""

    rig: RigName = Field("kitti", description="which volume and class list")
    size: Size = Field("small", description="network size; base is the paper's")
    recipe: OccleRecipeConfig = OccleRecipeConfig()


def fit_command(
    data: Annotated[Path, path_option("data set root with images, poses and voxel truth")],
    labels: Annotated[Path, path_option("2D pseudo-labels: what label wrote, or label images")],
    bundle: Annotated[Path, path_option("bundle to write at the end")],
    out: Annotated[
        Path, path_option("a folder per phase with checkpoint and log; a run that was stopped is resumed from here")
    ] = Path("out/fit_occle"),
    config: Annotated[Path | None, path_option("YAML file such as config/training/occle_*.yaml")] = None,
    size: Annotated[str, typer.Option(help="network size, instead of the configuration's: tiny, small or base")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps of every phase, instead of the configuration's")] = None,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    start_from: Annotated[Path | None, path_option("OccLE bundle to fine-tune, with its network and volume")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Train OccLE by its three phases from few voxel annotations and 2D pseudo-labels, and write a bundle.

    Example: occle-train fit-occle --data out/streets --labels out/labels --bundle out/occle --size tiny --steps 20
    """
    if threads:
        torch.set_num_threads(threads)
    run = _run_of(config, size, steps)
    if start_from and size:
        raise ValueError(f"--size {size}: the network is that of {start_from}; leave one of the two out")
    spec, initial, started_from = _begun(start_from) if start_from else (rig_spec(run.size, run.rig, "occle"), None, None)
    assert isinstance(spec.network, OccleConfig)
    datasets = open_all(data, split_names(sequences))
    console.print(describe_dataset(data, datasets), highlight=False)
    folder = LabelFolder(labels, taxonomy.load(spec.taxonomy))
    samples = OccleSamples(datasets, spec.voxel_grid, spec.network, run.recipe, folder, 4.0 / max(1, run.recipe.num_workers))
    place = resolve_device(device)
    load_kernels(place)
    console.print(
        f"{spec.name}: {len(samples)} frames of {len(datasets)} sequences, {len(samples.annotated)} of them annotated; "
        f"phases {', '.join(run.recipe.phases)} on {place}, logs in {out / '*' / LOG}"
    )
    with progress_bar("{task.fields[loss]}") as bar:
        tasks = {phase: bar.add_task(phase, total=None, loss="") for phase in run.recipe.phases}

        def on_step(phase: Phase, step: int, count: int, losses: dict[str, float]) -> None:
            text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            bar.update(tasks[phase], total=count, completed=step + 1, loss=text)

        network = fit_occle(spec, samples, run.recipe, out, place, on_step, initial)
    provenance = {
        "data": {"root": data.name, "sequences": [dataset.name for dataset in datasets], "frames": len(samples)},
        "labels": {**samples.provenance(), "teacher_confidence": run.recipe.confidence_threshold},
        "started_from": started_from,
        "fit": run.recipe.model_dump(mode="json"),
        **software_versions(),
    }
    save_bundle(bundle, spec.model_copy(update={"provenance": provenance}), network)
    console.print(f"wrote {bundle}; measure it: occle-train evaluate --bundle {bundle} --data DIR")


def _begun(bundle: Path) -> tuple[BundleSpec, OccLE, str]:
    """The network that a bundle holds, and the bundle's id."""
    spec, network, bundle_id = load_bundle(bundle)
    if not isinstance(network, OccLE):
        raise ValueError(f"{bundle} holds no OccLE network; start from another bundle")
    return spec, network, bundle_id


def _run_of(config: Path | None, size: str, steps: int | None) -> OccleRun:
    """A configuration file's values with those of the command line."""
    content = read_yaml(config)
    if size:
        content["size"] = size
    run = parse_config(OccleRun, content, config)
    if steps is None:
        return run
    every = dict.fromkeys(run.recipe.phases, steps)
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"phase_steps": every})})
