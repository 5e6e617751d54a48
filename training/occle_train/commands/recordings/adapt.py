# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from occle_core import taxonomy
from occle_core.bundle import find_bundle, load_bundle
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.sparse.native_gemm import compiled_kernels
from occle_train.adaptation.adapt import adapt, round_name, set_occupancy_bias
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.samples import AdaptSamples
from occle_train.commands import options as opt
from occle_train.commands import training
from occle_train.commands.common import console, path_option, say, split_names
from occle_train.commands.progress import TrainingProgress
from occle_train.commands.settings import merged_settings, parse_config
from occle_train.data.samples import listed_taxonomy, open_all
from occle_train.loop.checkpoints import steps_done
from occle_train.loop.run_key import run_key
from occle_train.loop.steps import TrainingHooks
from occle_train.loop.stop_request import stop_on_signals
from occle_train.loop.training_log import LOG
from occle_train.minkocc.finish import training_inputs
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.runs.checks import check_device, check_disk, check_names
from occle_train.runs.finish import CHECKED_FRAMES, Finish
from occle_train.runs.folder import RunOptions
from occle_train.runs.validation import Validator, slice_of

REMEDY = "lower the learning rate (--set learning_rate=0.0002), or take more simulated frames (--set simulated_share=0.7)"


def adapt_command(
    start_from: Annotated[
        str | None, typer.Argument(help="bundle to adapt: a folder, or kitti or nuscenes", metavar="[BUNDLE]")
    ] = None,
    data: Annotated[
        list[Path] | None, path_option("recordings: scans, images, poses; no labels of theirs are read; may be given several times")
    ] = None,
    simulated: Annotated[Path | None, path_option("simulated streets, so that nothing is forgotten (occle-train simulate)")] = None,
    out: opt.Out = None,
    bundle: opt.Bundle = None,
    resume: opt.Resume = None,
    name: opt.Name = "",
    config: opt.Config = None,
    assignments: opt.Set = None,
    labels: Annotated[Path | None, path_option("label images of the recordings (occle-train label); optional")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps of a round, instead of the configuration's")] = None,
    seed: opt.Seed = None,
    sequences: opt.Sequences = None,
    simulated_sequences: Annotated[str | None, typer.Option(help="comma-separated sequences of --simulated; all without")] = None,
    validation: opt.Validation = None,
    validation_sequences: opt.ValidationSequences = None,
    validate_every: opt.ValidateEvery = None,
    validation_frames: opt.ValidationFrames = None,
    device: opt.Device = None,
    threads: opt.Threads = None,
) -> None:
    """Adapt a trained MinkOcc network to recordings without labels; a run folder holds all that it writes.

    Examples:
      occle-train adapt kitti --data recordings --simulated out/streets --labels out/labels
      occle-train adapt --resume runs/adapted-001
    """
    given = RunOptions(
        data=tuple(data or ()), sequences=sequences, labels=labels, simulated=simulated, simulated_sequences=simulated_sequences,
        start_from=start_from, validation=validation, validation_sequences=validation_sequences, validate_every=validate_every,
        validation_frames=validation_frames, bundle=bundle, device=device, threads=threads,
    )  # fmt: skip
    options, saved = training.resumed_options("adapt", resume, given) if resume else (given, {})
    content = merged_settings(saved, config, assignments or [])
    content.update({key: value for key, value in (("steps", steps), ("seed", seed)) if value is not None})
    settings = parse_config(AdaptConfig, content, config or ("--set" if assignments else "the options"))
    place = check_device(options.device or "auto")
    if options.threads:
        torch.set_num_threads(options.threads)
    with training.opened_run(options, saved, resume, name or "adapted", out) as run:
        _train(run, settings, place)


def _train(run: training.Run, settings: AdaptConfig, place: str) -> None:
    """Train in the run's folder."""
    options = run.options
    if options.start_from is None:
        raise ValueError("no bundle to adapt; name one: occle-train adapt kitti --data DIR --simulated DIR")
    if options.simulated is None:
        raise ValueError("no simulated frames; make some with occle-train simulate, and give --simulated DIR")
    spec, initial, _ = load_bundle(find_bundle(Path(options.start_from).expanduser()))
    if not isinstance(initial, MinkOcc):
        raise ValueError(f"{options.start_from}: no MinkOcc network; adapt another bundle")
    classes, own = taxonomy.load(spec.taxonomy), listed_taxonomy(spec)
    sets = training.open_data(run, own)
    recorded = [dataset for datasets in sets.values() for dataset in datasets]
    simulated = open_all(options.simulated, split_names(options.simulated_sequences or ""), own)
    for where, datasets in (*sets.items(), (options.simulated, simulated)):
        if wrong := [dataset for dataset in datasets if dataset.taxonomy.name != classes.name]:
            raise ValueError(
                f"{where} ({wrong[0].name}) has the classes of {wrong[0].taxonomy.name}, the bundle those of {classes.name}"
            )
    labels = LabelFolder(options.labels, classes) if options.labels else None
    if options.labels:
        check_names(recorded, options.labels)
    samples = AdaptSamples(simulated, recorded, spec, settings, labels, run.folder / "cells", place)
    check_disk(run.folder, initial, settings.rounds)
    part = training.validation_slice(run, spec, own is not None)
    key = run_key(spec, samples, settings, initial)
    spec = training.bundle_spec(spec.model_copy(update={"calibration": None}), key, data_sets=training.named_sets(sets))
    counts = {round_name(number): settings.steps for number in range(settings.rounds)}
    first = sum(steps_done(run.folder / name) for name in counts)
    total = sum(counts.values())
    training.print_start(run, first, total)
    console.print(
        f"{spec.name}: {len(samples.recorded_items)} recorded and {len(samples.warm)} simulated frames, "
        f"{settings.rounds} rounds of {settings.steps} steps on {place}, run in {run.folder}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    training.record_run(run, "adapt", settings.model_dump(mode="json"))
    validator = Validator(run.folder, part, spec, first, place, say) if part is not None else None

    def validate(step: int, network: MinkOcc) -> None:
        assert validator is not None
        set_occupancy_bias(network, spec, samples)
        validator(step, network)

    with compiled_kernels(place, say), TrainingProgress(counts, console) as progress, stop_on_signals() as stop:
        every = options.validate_every or max(25, settings.steps // 4)
        hooks = TrainingHooks(progress.update, stop, validate if validator else None, every)
        network = adapt(spec, initial, samples, settings, run.folder, place, hooks, say)
    end = Finish(
        run.folder, spec, lambda: training_inputs(spec, samples, CHECKED_FRAMES),
        slice_of(simulated, CHECKED_FRAMES, options.simulated), validator,
        {name: run.folder / name / LOG for name in counts}, REMEDY,
    )  # fmt: skip

    def finish(network: Any) -> None:
        training.record_free_bias(end, set_occupancy_bias(network, spec, samples))

    done = sum(steps_done(run.folder / name) for name in counts)
    training.end_run(run, "adapt", end, network, (done, total), stop, finish)
