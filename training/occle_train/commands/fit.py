# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train fit`: MinkOcc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, load_bundle, rig_spec, spec_for
from occle_core.datasets import Dataset
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.networks.protocol import RigName, Size
from occle_core.rig import read_rig
from occle_core.sparse.native_gemm import compiled_kernels
from occle_core.taxonomy import read_classes
from occle_train.commands import options as opt
from occle_train.commands import training
from occle_train.commands.common import console, path_option, say, user_path
from occle_train.commands.fit_samples import bias_samples, training_samples, training_slice
from occle_train.commands.progress import TrainingProgress
from occle_train.commands.settings import merged_settings, parse_config
from occle_train.data.samples import Samples
from occle_train.loop.checkpoints import steps_done
from occle_train.loop.run_key import run_key
from occle_train.loop.steps import TrainingHooks
from occle_train.loop.stop_request import stop_on_signals
from occle_train.loop.training_log import LOG
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.described_rig import check_sensors, own_classes, spec_of_rig
from occle_train.minkocc.finish import FREE_BIAS_FRAMES, set_free_bias, training_inputs
from occle_train.minkocc.fit import fit, minkocc_config
from occle_train.minkocc.time_budget import fit_steps_to_time
from occle_train.process_group import join_process_group
from occle_train.runs.checks import (
    check_classes,
    check_device,
    check_disk,
    check_labels,
    check_names,
    check_rig_classes,
    check_truth,
    rig_of,
)
from occle_train.runs.finish import CHECKED_FRAMES, Finish, silent_losses
from occle_train.runs.folder import RunOptions
from occle_train.runs.validation import Validator

REMEDY = (
    "train longer (--steps 4000, or --max-minutes 10), start from a trained bundle (--start-from kitti), or lower the learning "
    "rate (--set learning_rate=0.0005)"
)


def fit_command(
    data: opt.Data = None,
    bundle: opt.Bundle = None,
    out: opt.Out = None,
    resume: opt.Resume = None,
    name: opt.Name = "",
    rig: Annotated[
        str | None,
        typer.Option(
            help="kitti, nuscenes or kitti360: volume and classes, where the data's layout does not say them; or a rig file, "
            "for its grid, cameras and classes",
            metavar="RIG",
        ),
    ] = None,
    size: Annotated[Size | None, typer.Option(help="network size; small without")] = None,
    classes: Annotated[Path | None, path_option("YAML file with a class list of your own, instead of the rig's")] = None,
    finer: Annotated[int | None, typer.Option(min=1, help="cells this many times smaller than 0.4 m: 2 for 0.2 m")] = None,
    sweeps: Annotated[
        int | None, typer.Option(min=1, max=32, help="scans that the network reads: the present one and those before it; 1 without")
    ] = None,
    config: opt.Config = None,
    assignments: opt.Set = None,
    labels: opt.Labels = None,
    targets: opt.Targets = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps, instead of the configuration's")] = None,
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
    """Train MinkOcc on labelled voxels, or by the recipe of the configuration; a run folder holds all that it writes.

    Examples:
      occle-train fit --data out/streets --validation out/validation --max-minutes 10
      occle-train fit --data out/own --rig rig.yaml --max-minutes 10
      occle-train fit --data out/streets --data out/frames --rig rig.yaml --config mixed --labels out/labels
      occle-train fit --resume runs/minkocc-small-kitti-001
    """
    rig_name, rig_file = known_rig_or_file(rig)
    own = read_classes(classes) if classes else own_classes(rig_file) if rig_file else None
    given = RunOptions(
        data=tuple(data or ()), sequences=sequences, labels=labels, targets=targets, rig=rig_name, rig_file=rig_file, size=size,
        classes=own, finer=finer, sweeps=sweeps, start_from=start_from,
        image_weights=image_weights, validation=validation, validation_sequences=validation_sequences,
        validate_every=validate_every, validation_frames=validation_frames, bundle=bundle, device=device, threads=threads,
        processes=processes,
    )  # fmt: skip
    options, saved = training.resumed_options("fit", resume, given) if resume else (given, {})
    # Data of a rig file is scored in every known cell, whether a camera sees it or not.
    first = saved or ({"truth_mask": "none"} if rig_file else {})
    settings = settings_of(config, assignments or [], first, steps=steps, max_minutes=max_minutes, seed=seed)
    place = check_device(options.device or "auto")
    writes = training.is_first_process(options, settings.batch_size, place, name or "minkocc", out, resume)
    if options.threads:
        torch.set_num_threads(options.threads)
    with training.opened_run(options, saved, resume, name or "minkocc", out, writes) as run:
        _train(run, settings, place)


def _train(run: training.Run, settings: FitConfig, place: str) -> None:
    """Train in the run's folder."""
    options = run.options
    own = taxonomy.load(options.classes) if options.classes else None
    started = training.start_folder(run)
    begun_spec, initial = load_bundle(started)[:2] if started else (None, None)
    if initial is not None and not isinstance(initial, MinkOcc):
        raise ValueError(f"--start-from {options.start_from}: no MinkOcc network; start from another bundle")
    recipe = settings.recipe
    if recipe is not None and recipe.switch_step(100) < 100 and options.labels is None and not recipe.mixed:
        raise ValueError("the recipe needs 2D labels of the images; make them with occle-train label, and give --labels DIR")
    sets = training.open_data(run, own)
    check_classes(sets)
    datasets = [dataset for found in sets.values() for dataset in found]
    spec = run_spec(run, datasets)
    classes = taxonomy.load(spec.taxonomy)
    if initial is not None and begun_spec is not None and drop_other_classes(initial, begun_spec, classes):
        console.print(f"the class head starts anew: {options.start_from} has other classes", highlight=False, soft_wrap=True)
    begun, pretrained = training.with_image_weights(run, spec, initial, settings.seed)
    assert begun is None or isinstance(begun, MinkOcc)
    initial = begun
    samples = training_samples(run, settings, spec, datasets, place)
    _check_targets(run, settings, samples, sets)
    check_disk(run.folder, spec.build())
    part = training.validation_slice(run, spec, own is not None)
    measured = bias_samples(settings, spec, samples, part)
    with compiled_kernels(place, say), join_process_group(place) as (group, device):
        settings, spent = settings.for_frames(len(samples)), 0.0
        if settings.max_minutes is not None and not run.resumed:
            settings, spent = fit_steps_to_time(spec, samples, settings, device, group)
            console.print(f"{settings.max_minutes:g} minutes are enough for about {settings.steps} steps", highlight=False)
        key = run_key(spec, samples, settings, initial)
        spec = training.bundle_spec(spec, key, **pretrained, data_sets=training.named_sets(sets))
        first = steps_done(run.folder)
        training.print_start(run, first, settings.steps)
        console.print(
            f"{spec.name}: {len(samples)} frames of {len(datasets)} sequences, {len(samples.labelled())} with voxel labels, "
            f"{settings.steps} steps on {group.size} x {device}, run in {run.folder}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        validator = None
        if group.rank == 0:
            training.record_run(run, "fit", settings.model_dump(mode="json"))
            if part is not None:
                validator = Validator(run.folder, part, spec, first, device, say)

        def validate(step: int, network: MinkOcc) -> None:
            if settings.free_bias:
                set_free_bias(network, spec, measured, CHECKED_FRAMES)
            assert validator is not None
            validator(step, network)

        with TrainingProgress({"training": settings.steps}, console) as progress, stop_on_signals() as stop:
            progress.steps = first
            every = options.validate_every or max(50, settings.steps // 10)
            hooks = TrainingHooks(progress.update, stop, validate if validator else None, every)
            network = fit(spec, samples, settings, run.folder, device, initial, hooks, group, spent)
        if group.rank:
            return
    done = settings.steps if steps_done(run.folder) >= settings.steps else progress.steps
    if run.options.labels is not None:
        _say_what_learned_nothing(run.folder / LOG, settings)
    end = Finish(
        run.folder, spec, lambda: training_inputs(spec, samples, CHECKED_FRAMES), training_slice(samples, run), validator,
        {"training": run.folder / LOG}, REMEDY,
    )  # fmt: skip

    def finish(network: Any) -> None:
        most = CHECKED_FRAMES if done < settings.steps else FREE_BIAS_FRAMES
        training.record_free_bias(end, set_free_bias(network, spec, measured, most) if settings.free_bias else 0.0)

    training.end_run(run, "fit", end, network, (done, settings.steps), stop, finish)


def drop_other_classes(initial: MinkOcc, spec: BundleSpec, classes: taxonomy.Taxonomy) -> bool:
    """Take the class head out of a network that a training starts from, where it is of other classes; whether it was.

    As many of them may be other ones: their weights would fit, and mean something else.
    """
    if taxonomy.load(spec.taxonomy).names == classes.names:
        return False
    del initial.head
    return True


def settings_of(config: str | None, assignments: Sequence[str], saved: dict[str, Any], **given: Any) -> FitConfig:
    """Values of a resumed run, of a configuration, of --set and of options, the later ones before the earlier."""
    content = merged_settings(saved, config, assignments)
    if given.get("steps") is not None:
        content.pop("epochs", None)
    content.update({name: value for name, value in given.items() if value is not None})
    if isinstance(content.get("recipe"), dict) and ("rig" in content or "teacher_epochs" in content["recipe"]):
        raise ValueError(f"--config {config}: a configuration of OccLE; train it with occle-train fit-occle")
    return parse_config(FitConfig, content, config or ("--set" if assignments else "the options"))


def known_rig_or_file(rig: str | None) -> tuple[RigName | None, Path | None]:
    """What --rig names: a known rig, or a rig file."""
    for name in get_args(RigName):
        if rig == name:
            return name, None
    file = user_path(rig) if rig else None
    if file is not None and not file.exists():
        raise ValueError(f"--rig {rig}: there are {', '.join(get_args(RigName))}, and no rig file of this name")
    return None, file


def run_spec(run: training.Run, datasets: Sequence[Dataset]) -> BundleSpec:
    """The spec of a run's network.

    Raises:
        ValueError: the data is not of the rig.
    """
    options = run.options
    size, file = options.size or "small", options.rig_file
    if file is None:
        rig = rig_of(datasets, options.rig, run.data_text)
        spec = rig_spec(size, rig, classes=options.classes)
        check_rig_classes(datasets, taxonomy.load(spec.taxonomy).name, rig)
    else:
        spec = spec_of_rig(size, file, options.classes)
        check_sensors(datasets, read_rig(file), spec.taxonomy, run.data_text)
    return _as_asked(spec, options.finer or 1, options.sweeps or 1)


def _as_asked(spec: BundleSpec, finer: int, sweeps: int) -> BundleSpec:
    """A spec of a network that reads `sweeps` scans, on cells `finer` times smaller."""
    if sweeps > 1:
        network = minkocc_config(spec)
        network = network.model_copy(update={"points": network.points.model_copy(update={"sweeps": sweeps})})
        spec = spec.model_copy(update={"network": network})
    if finer == 1:
        return spec
    return spec_for(spec.network, spec.voxel_grid.finer(finer), spec.taxonomy, f"{spec.name}-{finer}x")


def _check_targets(run: training.Run, settings: FitConfig, samples: Samples, sets: Mapping[Path, Sequence[Dataset]]) -> None:
    """Make sure that there is something to learn from every data set, and say which frames teach nothing, or less than they could.

    Raises:
        DatasetError: there is not, or label images are missing.
    """
    recipe, labels = settings.recipe, samples.labels
    if recipe is None:
        for note in check_truth(sets, samples.index):
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
    weak = samples.weak if recipe is not None and recipe.mixed else None
    if labels is not None:
        numbers = sorted({samples.index[item][0] for item in (range(len(samples)) if weak is None else weak)})
        check_names([samples.datasets[number] for number in numbers], labels.root)
        check_labels(samples, run.data_text, weak)
    elif weak:
        console.print(
            f"note: no --labels, so the {len(weak)} frames without voxel labels teach occupancy alone, by their scans; "
            "occle-train label makes labels of their images",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _say_what_learned_nothing(log: Path, settings: FitConfig) -> None:
    switch = settings.sampling_plan.switch_step
    if settings.recipe is not None and switch < settings.steps and "pseudo" in silent_losses(log, switch):
        console.print("warning: the 2D labels had no effect: their loss was 0 in every step; are they all 255 (unlabelled)?")
