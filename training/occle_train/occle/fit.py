# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Algorithm 1 from files: `occle-train fit-occle`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.networks.occle.network import OccLE
from occle_core.taxonomy import Taxonomy
from occle_train.loop.checkpoints import CHECKPOINT, Checkpoint, read_checkpoint
from occle_train.loop.precision import matmul_precision
from occle_train.loop.run_key import run_key
from occle_train.loop.schedule import scheduled_rate, seed_everything, set_learning_rate
from occle_train.loop.steps import Clock, LoopHooks, run_steps
from occle_train.loop.sync_batch_norm import sync_batch_norms
from occle_train.loop.training_log import LOG, TrainingLog
from occle_train.loop.workers import ignore_signals, loader_processes
from occle_train.occle.batches import PhaseBatches, PhaseSampler, steps_of
from occle_train.occle.kept_targets import TeacherPredictions, scan_evidence
from occle_train.occle.objectives import OccleBatch, Weights
from occle_train.occle.phases import OccleRecipeConfig, Phase, begin_phase, run_phase
from occle_train.occle.samples import OccleSamples
from occle_train.occle.self_training import SelfTraining
from occle_train.process_group import ALONE, ProcessGroup

CELLS = "cells"
"""Folder of a run's 3D pseudo-labels."""
ProgressCallback = Callable[[Phase, int, int, dict[str, float]], None]
"""Called after every step with phase, step, steps in all and losses."""


def fit_occle(
    spec: BundleSpec,
    samples: OccleSamples,
    config: OccleRecipeConfig,
    out: Path,
    device: str = "cpu",
    on_progress: ProgressCallback = lambda phase, step, steps, losses: None,
    initial: OccLE | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    validate: Callable[[int, OccLE], None] | None = None,
    validate_every: int = 500,
    group: ProcessGroup = ALONE,
) -> OccLE:
    """Train all phases, or resume the run in `out`.

    Args:
        spec: an OccLE network and its grid.
        samples: the training set on the spec's grid.
        config: how.
        out: a folder for each phase is made in it, with its checkpoint and log.csv (a row per step).
        device: torch's name of the device.
        on_progress: called after every step with phase, step, number of steps and losses.
        initial: a network of the spec's structure whose weights all phases start from; None starts from the seed's.
        should_stop: asked after every step; True saves a checkpoint and ends the training early.
        validate: called every `validate_every` steps of the last phase, before which nothing is predicted, with the phase's steps
            done and a copy of the network, on the CPU.
        validate_every: see `validate`.
        group: the processes that train together; each returns the same network, the first writes.

    Returns:
        the network, on the CPU, in evaluation mode.

    Raises:
        ValueError: a checkpoint in `out` is of another configuration, data or start, the batch cannot be shared out evenly, or
            bfloat16 is asked for on a CPU.
        FloatingPointError: a loss is not finite.
    """
    if config.precision == "bf16" and not device.startswith("cuda"):
        raise ValueError(
            "recipe.precision bf16 is for GPUs: on CPUs PyTorch's 3D convolutions of small volumes give wrong gradients in "
            "bfloat16 (seen with 2.13); leave it fp32"
        )
    if config.batch_size % group.size:
        raise ValueError(f"batch_size {config.batch_size} cannot be shared out evenly over {group.size} processes")
    network = fresh_network(spec, config)
    if initial is not None:
        network.load_state_dict(initial.state_dict())
    # The student is of the same structure as its teacher, and trained from the start.
    untrained = copy.deepcopy(network.geometric.state_dict())
    for phase in config.phases:
        if phase == "student":
            network.geometric.load_state_dict(untrained)
        hooks = LoopHooks(should_stop=should_stop, validate_every=validate_every)
        if validate is not None and phase == config.phases[-1]:
            hooks.validate = _on_copies(network, validate)
        finished = fit_phase(
            network, phase, spec, samples, config, out / phase, device, on_progress, out / "teacher", initial, hooks, group
        )
        if not finished:
            break
    return network


def fresh_network(spec: BundleSpec, config: OccleRecipeConfig) -> OccLE:
    """The network with the seed's weights.

    Raises:
        ValueError: the spec is of another network.
    """
    seed_everything(config.seed)
    network = spec.build()
    if not isinstance(network, OccLE):
        raise ValueError(f"{spec.name} is no OccLE network, which is trained in another way: occle-train fit")
    return network


def fit_phase(
    network: OccLE,
    phase: Phase,
    spec: BundleSpec,
    samples: OccleSamples,
    config: OccleRecipeConfig,
    out: Path,
    device: str,
    on_progress: ProgressCallback,
    teacher: Path,
    initial: OccLE | None = None,
    hooks: LoopHooks | None = None,
    group: ProcessGroup = ALONE,
    cells: Path | None = None,
) -> bool:
    """Train one phase, or resume the run in `out`; a finished one is only loaded.

    Args:
        network: as the phases before left it; in the end on the CPU, in evaluation mode.
        phase: which one.
        spec, samples, config, device, on_progress: see `fit_occle`.
        out: the phase's folder.
        teacher: the teacher's folder; students read its checkpoint, and its predictions are kept there.
        initial: the weights that the first phase started from, where they are not the seed's.
        hooks: whether to stop, and validation; `on_progress` is set here.
        group: see `fit_occle`.
        cells: folder of the 3D pseudo-labels, where the recipe has some; `CELLS` beside `out` if not given.

    Returns:
        whether the phase is finished.
    """
    out.mkdir(parents=True, exist_ok=True)
    group.wait()  # for the first process, which writes the checkpoint of the phase before
    network.to(device)
    steps, clock = steps_of(samples, phase, config), Clock()
    optimizer = begin_phase(network, phase, config)
    classes = taxonomy.load(spec.taxonomy)
    self_training = make_self_training(network, phase, classes, config, steps, device)
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "clock": clock}
    if self_training is not None:
        parts["self_training"] = self_training
    checkpoint = Checkpoint(out / CHECKPOINT, {**run_key(spec, samples, config, initial), "phase": phase}, parts)
    done = first = checkpoint.load()
    if first < steps:
        teacher_labels = _teacher_predictions(spec, samples, config, teacher, device, group) if phase == "student" else None
        workers = loader_processes(config.num_workers, device, group.size)
        evidence = None if phase != "fusion" else scan_evidence(samples, cells or out.parent / CELLS, config, workers, group)
        weights = weights_on(samples.weights(classes.free), device)

        def take_step(step: int, batch: OccleBatch) -> dict[str, float]:
            rate = config.learning_rate * scheduled_rate(step, 0, steps)
            set_learning_rate(optimizer, rate)
            values: dict[str, float] = {"learning_rate": rate}
            run_phase(network, phase, [batch.to(device)], optimizer, weights, config, values.update, group, self_training)
            return values | {"total": sum(values[name] for name in config.terms(phase))}

        hooks = hooks or LoopHooks()
        hooks.on_progress = lambda step, losses: on_progress(phase, step, steps, losses)
        order = PhaseSampler(samples, phase, config, first, steps)
        made = PhaseBatches(samples, phase, config, teacher_labels, group, evidence)
        batches = DataLoader(
            made,
            batch_size=None,
            sampler=order,
            num_workers=workers,
            worker_init_fn=ignore_signals,
            pin_memory=device.startswith("cuda"),
        )
        file = out / LOG if group.rank == 0 else None
        with (
            TrainingLog(file, (*config.terms(phase), "total"), first, device) as log,
            sync_batch_norms(network, group),
            matmul_precision(config.precision, device),
        ):
            done = run_steps(
                batches, take_step, first, steps, config.batch_size, config.checkpoint_every, log, checkpoint, hooks, group
            )
    network.cpu().eval().requires_grad_(False)
    return done >= steps


def make_self_training(
    network: OccLE, phase: Phase, classes: Taxonomy, config: OccleRecipeConfig, steps: int, device: str
) -> SelfTraining | None:
    """The averaged network as the teacher of phase III of `steps` steps, where the recipe has one."""
    if phase != "fusion" or config.self_training is None:
        return None
    first = config.self_training.first_step(steps)
    return SelfTraining(network, classes.num_classes, classes.free, config.self_training, first).to(device)


def _on_copies(network: OccLE, validate: Callable[[int, OccLE], None]) -> Callable[[int], None]:
    return lambda step: validate(step, copy.deepcopy(network).cpu().eval())


def _teacher_predictions(
    spec: BundleSpec, samples: OccleSamples, config: OccleRecipeConfig, folder: Path, device: str, group: ProcessGroup
) -> TeacherPredictions:
    """The predictions of the teacher whose checkpoint is in `folder`, kept there; those that are missing are made.

    The folder's name says which teacher they are of: after another training they are not taken for the new one's.
    """
    weights = read_checkpoint(folder / CHECKPOINT)["network"]
    digest = hashlib.sha256(b"".join(value.contiguous().numpy().tobytes() for value in weights.values())).hexdigest()[:12]
    teacher_labels = TeacherPredictions(samples, folder / f"teacher_labels-{config.confidence_threshold:g}-{digest}")
    if teacher_labels.missing:
        teacher = fresh_network(spec, config)
        teacher.load_state_dict(weights)
        teacher_labels.predict(teacher.to(device).eval().requires_grad_(False), config, device, group)
    group.wait()  # for the others' shares
    return teacher_labels


def weights_on(weights: Weights, device: str) -> Weights:
    """The same class weights on a device."""
    return replace(
        weights, pixels=weights.pixels.to(device), voxels=weights.voxels.to(device), geometry=weights.geometry.to(device)
    )
