# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What `occle-train fit`, `fit-occle` and `adapt` share: resuming, data, validation, and the end of a run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import typer

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, find_bundle, require_bundle_place
from occle_core.datasets import Dataset
from occle_core.networks.protocol import Network
from occle_train.commands.common import console, describe_dataset, split_names
from occle_train.data.samples import open_all, open_sets
from occle_train.data.truth import TruthReader, scored_grid, voxel_truth
from occle_train.evaluation.terminal_tables import score_table
from occle_train.loop.curves import read_rows
from occle_train.loop.image_weights import load_image_weights
from occle_train.loop.run_key import provenance_of
from occle_train.loop.schedule import seed_everything
from occle_train.loop.stop_request import StopRequest
from occle_train.process_launch import run_processes
from occle_train.runs.checks import check_processes
from occle_train.runs.finish import Finish, finish_run, stop_run
from occle_train.runs.folder import (
    BEST,
    LAST,
    REPORT,
    RunOptions,
    RunRecord,
    environment,
    is_run,
    new_run_folder,
    read_record,
    write_record,
)
from occle_train.runs.validation import Slice, headline, headline_text, slice_of

Command = Literal["fit", "fit-occle", "adapt"]


@dataclass
class Run:
    """A run that begins or is resumed.

    Attributes:
        folder: its folder.
        options: of the run, with what was given now.
        settings: values of the configuration that a resumed run has; empty for a new one.
        resumed: whether it is resumed.
    """

    folder: Path
    options: RunOptions
    settings: dict[str, Any]
    resumed: bool

    @property
    def data(self) -> tuple[Path, ...]:
        """Folders of the training data.

        Raises:
            ValueError: none was given.
        """
        if not self.options.data:
            raise ValueError("no training data; give --data DATASET (occle-train simulate makes one), or --resume RUN")
        return self.options.data

    @property
    def data_text(self) -> str:
        """The folders of the training data in words."""
        return ", ".join(map(str, self.data))

    def resume_command(self, command: Command) -> str:
        """The command that resumes the run."""
        return f"occle-train {command} --resume {shlex.quote(str(self.folder))}"


def resumed_options(command: Command, resume: Path, given: RunOptions) -> tuple[RunOptions, dict[str, Any]]:
    """Options and settings of a run, with what is given now.

    Raises:
        ValueError: the folder holds no run of this command.
    """
    record = read_record(resume)
    if record.command != command:
        raise ValueError(f"{resume} is a run of occle-train {record.command}; resume it with that command")
    return record.options.updated(given), record.settings


@contextmanager
def opened_run(
    options: RunOptions, settings: dict[str, Any], resume: Path | None, name: str, out: Path | None, writes: bool = True
) -> Iterator[Run]:
    """The folder of a run that is resumed, or a new one.

    Args:
        options, settings: see Run.
        resume: folder of the run to resume.
        name: of a new run's folder.
        out: folder of a new run, instead of the next `runs/NAME-NNN`.
        writes: whether this process is the first of those that train together; the others are given the folder.

    Raises:
        ValueError: both folders are given, `out` holds a run, or no bundle can be written where it is asked for.
    """
    if options.bundle is not None:
        require_bundle_place(options.bundle)
    if resume is not None and out is not None:
        raise ValueError("--out is for a new run and --resume for an old one; leave one of the two out")
    if resume is not None:
        yield Run(resume, options, settings, True)
    elif not writes:
        assert out is not None
        yield Run(out, options, settings, False)
    else:
        with new_run_folder(name, out) as folder:
            yield Run(folder, options, settings, False)


def is_first_process(options: RunOptions, batch_size: int, device: str, name: str, out: Path | None, resume: Path | None) -> bool:
    """Whether this process is the first of those that train together, which alone prints and writes.

    Where --processes asks for several, and this is none of them, they are started, and the command ends with them.

    Raises:
        ValueError: they cannot share a batch, have no GPU each, or have no common run folder.
        typer.Exit: the processes have ended.
    """
    count = options.processes or 1
    check_processes(count, batch_size, device)
    if count > 1 and "RANK" not in os.environ:
        raise typer.Exit(_start_processes(count, name, out, resume))
    if os.environ.get("WORLD_SIZE", "1") != "1" and out is None and resume is None:
        raise ValueError("processes that torchrun starts need one run folder: give all of them the same --out RUN")
    first = os.environ.get("RANK", "0") == "0"
    console.quiet = not first
    return first


def _start_processes(count: int, name: str, out: Path | None, resume: Path | None) -> int:
    """Start this command once per process, all with one run folder. Returns the exit code."""
    command = [sys.executable, "-u", "-m", "occle_train.cli", *sys.argv[1:]]
    if resume is not None:
        return run_processes(command, count)
    with new_run_folder(name, out) as folder:
        return run_processes([*command, "--out", str(folder)], count)


def open_data(run: Run, classes: taxonomy.Taxonomy | None) -> dict[Path, list[Dataset]]:
    """The training data by its folders, each said in a line."""
    found = open_sets(run.data, split_names(run.options.sequences or ""), classes, run.options.rig_file)
    for data, datasets in found.items():
        console.print(describe_dataset(data, datasets), highlight=False, soft_wrap=True)
    return found


def named_sets(sets: Mapping[Path, Sequence[Dataset]]) -> list[dict[str, Any]]:
    """The data sets of a training, for the bundle's provenance."""
    return [
        {"name": data.resolve().name, "layout": datasets[0].kind, "sequences": len(datasets), "frames": sum(map(len, datasets))}
        for data, datasets in sets.items()
    ]


def validation_slice(run: Run, spec: BundleSpec, own: bool, truth: TruthReader = voxel_truth) -> Slice | None:
    """The validation frames; None without --validation.

    Args:
        run: see above.
        spec: of the network.
        own: whether its class list is one's own.
        truth: where the truth comes from.

    Raises:
        ValueError: they have other classes or more cameras, or a truth that is missing or does not fit the network's grid.
    """
    data, classes = run.options.validation, taxonomy.load(spec.taxonomy)
    if data is None:
        return None
    datasets = open_all(data, split_names(run.options.validation_sequences or ""), classes if own else None)
    wrong = [dataset for dataset in datasets if dataset.taxonomy.name != classes.name]
    if wrong:
        raise ValueError(f"--validation {data} is labelled with {wrong[0].taxonomy.name}, the training with {classes.name}")
    for dataset in datasets:
        if len(dataset.camera_names) > spec.network.num_cameras:
            raise ValueError(
                f"--validation {data}: {dataset.name} has {len(dataset.camera_names)} cameras, the network "
                f"{spec.network.num_cameras}; give data of the training's rig"
            )
    part = slice_of(datasets, run.options.validation_frames or 24, data, truth)
    if truth is voxel_truth:  # whose cells may not line up
        dataset, i = part.frames[0]
        truth(dataset, i, scored_grid(spec.voxel_grid, dataset)[0])
    console.print(f"validation: {len(part.frames)} frames of {describe_dataset(data, datasets)}", highlight=False, soft_wrap=True)
    among = data.resolve() in [folder.resolve() for folder in run.data]
    if among and run.options.validation_sequences == run.options.sequences:
        console.print(
            "warning: the validation frames are training frames; their scores say nothing about new streets", soft_wrap=True
        )
    return part


def start_folder(run: Run) -> Path | None:
    """Folder of the bundle that the training starts from."""
    return find_bundle(Path(run.options.start_from).expanduser()) if run.options.start_from else None


def with_image_weights(run: Run, spec: BundleSpec, initial: Network | None, seed: int) -> tuple[Network | None, dict[str, Any]]:
    """The network that a training starts from, its image trunk pretrained where that is asked for, and what the provenance says.

    Args:
        run, spec: see above.
        initial: the network of --start-from.
        seed: of the weights where there is none.
    """
    file = run.options.image_weights
    if file is None:
        return initial, {}
    if initial is None:
        seed_everything(seed)
        initial = spec.build()
    return initial, {"image_weights": load_image_weights(file.expanduser(), initial)}


def record_run(run: Run, command: Command, settings: dict[str, Any]) -> None:
    """Write run.yaml: paths are absolute, so that the run can be resumed from another folder."""
    paths: dict[str, Any] = {name: value.expanduser().resolve() for name, value in run.options if isinstance(value, Path)}
    paths["data"] = tuple(folder.expanduser().resolve() for folder in run.data)
    start = start_folder(run)
    options = run.options.model_copy(update={**paths, **({"start_from": str(start.resolve())} if start else {})})
    made = read_record(run.folder).environment if run.resumed and is_run(run.folder) else environment()
    if run.resumed:
        made = {**made, "resumed": [*made.get("resumed", []), environment()["date"]]}
    write_record(run.folder, RunRecord(command=command, options=options, settings=settings, environment=made))


def bundle_spec(spec: BundleSpec, key: dict[str, Any], **more: Any) -> BundleSpec:
    """The spec of a run's bundles: provenance from the run's key."""
    made = environment()
    versions = {"revision": made["revision"], "date": made["date"][:10], "torch": torch.__version__}
    return spec.model_copy(update={"provenance": {**provenance_of(key), **more, **versions}})


def print_start(run: Run, first: int, steps: int) -> None:
    """Say where a run begins or is resumed."""
    if run.resumed and first >= steps:
        console.print(f"{run.folder}: already finished, {steps} steps; writing its bundle and report anew", highlight=False)
    elif run.resumed:
        console.print(f"{run.folder}: resuming at step {first} of {steps}", highlight=False)


def record_free_bias(end: Finish, bias: float) -> None:
    """Name the free class's bias in the provenance of the bundles that are still to be written."""
    end.spec = end.spec.model_copy(update={"provenance": {**end.spec.provenance, "free_bias": bias}})
    if end.validator is not None:
        end.validator.spec = end.spec


def end_run(
    run: Run,
    command: Command,
    end: Finish,
    network: Network,
    steps: tuple[int, int],
    stop: StopRequest,
    finish: Callable[[Network], None] = lambda network: None,
) -> None:
    """Write what a run leaves behind, and say it; exit with the signal's code after a request to stop.

    Args:
        run, command, end: see above.
        network: with the trained weights.
        steps: done, and in all.
        stop: whether the run was asked to stop.
        finish: makes the network as a bundle is to hold it.
    """
    finish(network)
    if stop() and steps[0] < steps[1]:
        stop_run(end, network, run.options.bundle)
        typer.echo(
            f"stopped at step {steps[0]} of {steps[1]}; the bundle of the weights until now is {end.run / LAST}; resume with: "
            f"{run.resume_command(command)}",
            err=True,
        )
        raise typer.Exit(stop.exit_code)
    trained = len(read_rows(list(end.logs.values())[-1]))
    if trained < steps[1] and len(end.logs) == 1:
        console.print(f"the time limit ended the training after {trained} of {steps[1]} steps", highlight=False)
    scores = finish_run(end, network, trained, run.options.bundle)
    chosen = end.run / (BEST if (end.run / BEST).is_dir() else LAST)
    if scores is not None:
        on = "validation" if end.validator else "training"
        where = run.options.validation if end.validator else run.data_text
        console.print(score_table(scores, taxonomy.load(end.spec.taxonomy), f"{chosen}, {on} frames of {where}"))
        console.print(f"{on}: {headline_text(headline(scores))}", highlight=False)
    bundle = run.options.bundle or chosen
    console.print(f"wrote {bundle} and {end.run / REPORT}", highlight=False, soft_wrap=True)
    console.print(f"measure it: occle-train evaluate --bundle {bundle} --data DIR", highlight=False, soft_wrap=True)
