# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train fit-occle`: OccLE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, load_bundle
from occle_core.frame import FrameError
from occle_core.networks.occle.config import OccleConfig
from occle_core.networks.occle.inputs import OccleInputs, prepare
from occle_core.networks.occle.network import OccLE
from occle_core.networks.protocol import RigName, Size
from occle_core.sparse.native_gemm import compiled_kernels
from occle_train.commands import options as opt
from occle_train.commands import training
from occle_train.commands.common import console, say
from occle_train.commands.progress import TrainingProgress
from occle_train.commands.settings import merged_settings, parse_config
from occle_train.data.truth import TRUTHS
from occle_train.loop.checkpoints import steps_done
from occle_train.loop.run_key import run_key
from occle_train.loop.steps import TrainingHooks
from occle_train.loop.stop_request import stop_on_signals
from occle_train.loop.training_log import LOG
from occle_train.loop.workers import cache_size
from occle_train.occle.batches import steps_of
from occle_train.occle.fit import CELLS, fit_occle
from occle_train.occle.phases import OccleRecipeConfig
from occle_train.occle.run_config import OccleRun, spec_of
from occle_train.occle.samples import OccleSamples
from occle_train.occle.time_budget import fit_phases_to_time
from occle_train.process_group import ProcessGroup, join_process_group
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.runs.checks import check_classes, check_device, check_disk, check_labels, check_names, rig_of
from occle_train.runs.finish import CHECKED_FRAMES, Finish, silent_losses
from occle_train.runs.folder import RunOptions
from occle_train.runs.validation import Slice, Validator, slice_of

REMEDY = (
    "train longer (--steps 2000, or --max-minutes 60), give more annotations (--set recipe.annotated_fraction=0.2) or repeat them "
    "(--set recipe.min_annotated_fraction=0.5), or start from a trained bundle (--start-from BUNDLE)"
)


def fit_command(
    data: opt.Data = None,
    labels: opt.Labels = None,
    bundle: opt.Bundle = None,
    out: opt.Out = None,
    resume: opt.Resume = None,
    name: opt.Name = "",
    rig: Annotated[RigName | None, typer.Option(help="volume and class list, where the data's layout does not say it")] = None,
    size: Annotated[Size | None, typer.Option(help="network size, instead of the configuration's")] = None,
    config: opt.Config = None,
    assignments: opt.Set = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps of every phase, instead of the configuration's")] = None,
    max_minutes: opt.MaxMinutes = None,
    seed: opt.Seed = None,
    sequences: opt.Sequences = None,
    start_from: opt.StartFrom = None,
    image_weights: opt.ImageWeights = None,
    validation: opt.Validation = None,
    validation_sequences: opt.ValidationSequences = None,
    validate_every: opt.ValidateEvery = None,
    validation_frames: opt.ValidationFrames = None,
    device: opt.Device = None,
    threads: opt.Threads = None,
    processes: opt.Processes = None,
) -> None:
    """Train OccLE by its three phases from few voxel annotations and 2D pseudo-labels; a run folder holds all that it writes.

    Examples:
      occle-train fit-occle --data out/streets --labels out/labels --size tiny --steps 20
      occle-train fit-occle --resume runs/occle-001
    """
    given = RunOptions(
        data=tuple(data or ()), sequences=sequences, labels=labels, rig=rig, size=size, start_from=start_from,
        image_weights=image_weights, validation=validation,
        validation_sequences=validation_sequences, validate_every=validate_every, validation_frames=validation_frames,
        bundle=bundle, device=device, threads=threads, processes=processes,
    )  # fmt: skip
    options, saved = training.resumed_options("fit-occle", resume, given) if resume else (given, {})
    settings = settings_of(config, assignments or [], saved, size=size, steps=steps, max_minutes=max_minutes, seed=seed)
    place = check_device(options.device or "auto")
    writes = training.is_first_process(options, settings.recipe.batch_size, place, name or "occle", out, resume)
    if options.threads:
        torch.set_num_threads(options.threads)
    with training.opened_run(options, saved, resume, name or "occle", out, writes) as run, join_process_group(place) as joined:
        _train(run, settings, *joined)


def _train(run: training.Run, settings: OccleRun, group: ProcessGroup, place: str) -> None:
    """Train in the run's folder."""
    options = run.options
    if options.start_from and options.size:
        raise ValueError(f"--size {options.size}: the network is that of {options.start_from}; leave one of the two out")
    if options.labels is None:
        raise ValueError("OccLE learns from 2D labels of the images; make them with occle-train label, and give --labels DIR")
    started = training.start_folder(run)
    spec, initial = _begun(started) if started else (None, None)
    sets = training.open_data(run, None)
    datasets = [dataset for found in sets.values() for dataset in found]
    check_classes(sets)
    check_names(datasets, options.labels)
    if spec is None:
        spec = spec_of(settings, rig_of(datasets, options.rig or settings.rig, run.data_text))
    assert isinstance(spec.network, OccleConfig)
    recipe, classes = settings.recipe, taxonomy.load(spec.taxonomy)
    begun, pretrained = training.with_image_weights(run, spec, initial, recipe.seed)
    assert begun is None or isinstance(begun, OccLE)
    initial = begun
    memory = cache_size(recipe.num_workers, place, group.size)
    samples = OccleSamples(datasets, spec.voxel_grid, spec.network, recipe, LabelFolder(options.labels, classes), memory)
    check_labels(samples, run.data_text)
    check_disk(run.folder, spec.build(), len(recipe.phases))
    part = training.validation_slice(run, spec, False, TRUTHS[recipe.truth])
    with compiled_kernels(place, say):
        if recipe.max_minutes is not None and not run.resumed:
            recipe = fit_phases_to_time(spec, samples, recipe, run.folder / CELLS, place, group)
            settings = settings.model_copy(update={"recipe": recipe})
        counts = {phase: steps_of(samples, phase, recipe) for phase in recipe.phases}
        key = run_key(spec, samples, recipe, initial)
        spec = training.bundle_spec(spec, key, **pretrained, data_sets=training.named_sets(sets))
        first, total = sum(steps_done(run.folder / phase) for phase in counts), sum(counts.values())
        training.print_start(run, first, total)
        console.print(
            f"{spec.name}: {len(samples)} frames of {len(datasets)} sequences, {len(samples.annotated)} of them annotated; "
            f"{', '.join(f'{count} steps of {phase}' for phase, count in counts.items())} on {group.size} x {place}, "
            f"run in {run.folder}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        last = recipe.phases[-1]
        validator = None
        if group.rank == 0:
            training.record_run(run, "fit-occle", settings.model_dump(mode="json"))
            if part is not None:
                done = steps_done(run.folder / last)
                validator = Validator(run.folder, part, spec, done, place, say)

        def validate(step: int, network: OccLE) -> None:
            assert validator is not None
            validator(step, network)

        with TrainingProgress(counts, console) as progress, stop_on_signals() as stop:

            def on_step(phase: str, step: int, losses: dict[str, float]) -> None:
                progress.update(phase, step, losses)
                if step + 1 == progress.phases[phase] and group.rank == 0:
                    _say_what_learned_nothing(phase, run.folder / phase / LOG, recipe)

            every = options.validate_every or max(50, counts[last] // 10)
            hooks = TrainingHooks(on_step, stop, validate if validator else None, every)
            network = fit_occle(spec, samples, recipe, run.folder, place, initial, hooks, group)
    if group.rank:
        return
    end = Finish(
        run.folder, spec, lambda: _inputs(samples), _training_slice(samples, run, recipe), validator,
        {phase: run.folder / phase / LOG for phase in recipe.phases}, REMEDY,
    )  # fmt: skip
    trained = sum(steps_done(run.folder / phase) for phase in counts)
    training.end_run(run, "fit-occle", end, network, (trained, total), stop)


def settings_of(config: str | None, assignments: Sequence[str], saved: dict[str, Any], **given: Any) -> OccleRun:
    """Values of a resumed run, of a configuration, of --set and of options, the later ones before the earlier."""
    content = merged_settings(saved, config, assignments)
    if "batch_size" in content or "epochs" in content:
        raise ValueError(f"--config {config}: a configuration of MinkOcc; train it with occle-train fit")
    if given.get("size") is not None:
        content["size"] = given["size"]
    recipe = {name: given[name] for name in ("seed", "max_minutes") if given.get(name) is not None}
    if recipe:
        content["recipe"] = {**content.get("recipe", {}), **recipe}
    run = parse_config(OccleRun, content, config or ("--set" if assignments else "the options"))
    if given.get("steps") is None:
        return run
    every = dict.fromkeys(run.recipe.phases, given["steps"])
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"phase_steps": every})})


def _begun(bundle: Path) -> tuple[BundleSpec, OccLE]:
    """The network that a bundle holds."""
    spec, network, _ = load_bundle(bundle)
    if not isinstance(network, OccLE):
        raise ValueError(f"--start-from {bundle}: no OccLE network; start from another bundle")
    return spec, network


def _inputs(samples: OccleSamples) -> Iterator[OccleInputs]:
    """Inputs of some training frames, annotated ones."""
    for item in samples.annotated[:: max(1, -(-len(samples.annotated) // CHECKED_FRAMES))]:
        try:
            yield prepare(*samples.frames(item), samples.grid, samples.network)
        except FrameError:
            continue  # the training has named it


def _training_slice(samples: OccleSamples, run: training.Run, recipe: OccleRecipeConfig) -> Slice:
    """Some frames of the sequences that have annotations, to be scored where there is no validation."""
    named = {samples.index[item][0] for item in samples.annotated}
    return slice_of([samples.datasets[number] for number in sorted(named)], CHECKED_FRAMES, run.data_text, TRUTHS[recipe.truth])


def _say_what_learned_nothing(phase: str, log: Path, recipe: OccleRecipeConfig) -> None:
    ablated = {"annotations": "occupancy", "projection": "projection"}
    left_out = {ablated[name] for name in recipe.ablate if name in ablated}
    left_out |= {"image", "lidar"} if "semantic" in recipe.ablate else set()
    left_out |= {"voxel_pseudo_labels"} if recipe.annotated_fraction == 1 else set()
    silent = [name for name in silent_losses(log) if name not in left_out and name != "total"]
    if not silent:
        return
    why = {
        "student": f"no cell of the teacher's predictions reached the confidence {recipe.confidence_threshold:g}, and no annotated "
        "frame was drawn; lower it (--set recipe.confidence_threshold=0.6) or repeat the annotated frames "
        "(--set recipe.min_annotated_fraction=0.5)",
        "fusion": "no annotated frame was drawn; repeat them (--set recipe.min_annotated_fraction=0.5) or train longer",
    }
    if silent == ["voxel_pseudo_labels"]:
        why["fusion"] = "no frame without annotation and with a pose was drawn; train longer"
    console.print(
        f"warning: phase {phase} learned nothing from {', '.join(silent)}: the loss was 0 in every step; "
        f"{why.get(phase, 'are the labels all 255 (unlabelled)?')}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
