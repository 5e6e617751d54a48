# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Algorithm 1 from files: `occle-train fit-occle`."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.networks.occle.network import OccLE
from occle_core.taxonomy import Taxonomy
from occle_train.loop.checkpoints import CHECKPOINT, Checkpoint, read_checkpoint
from occle_train.loop.precision import matmul_precision
from occle_train.loop.run_key import run_key
from occle_train.loop.schedule import scheduled_rate, seed_everything, set_learning_rate
from occle_train.loop.steps import NO_HOOKS, Clock, TrainingHooks, run_steps
from occle_train.loop.sync_batch_norm import sync_batch_norms
from occle_train.loop.training_log import LOG, TrainingLog
from occle_train.loop.workers import load_batches, loader_processes
from occle_train.occle.batches import PhaseBatches, PhaseSampler, steps_of
from occle_train.occle.kept_targets import TeacherPredictions, scan_evidence
from occle_train.occle.objectives import OccleBatch, Weights
from occle_train.occle.phases import OccleRecipeConfig, Phase, begin_phase, run_step
from occle_train.occle.samples import OccleSamples
from occle_train.occle.self_training import SelfTraining
from occle_train.process_group import ALONE, ProcessGroup

CELLS = "cells"
"""Folder of a run's 3D pseudo-labels."""


def fit_occle(
    spec: BundleSpec,
    samples: OccleSamples,
    config: OccleRecipeConfig,
    out: Path,
    device: str = "cpu",
    initial: OccLE | None = None,
    hooks: TrainingHooks[OccLE] = NO_HOOKS,
    group: ProcessGroup = ALONE,
) -> OccLE:
    """Train all phases, or resume the run in `out`.

    Args:
        spec: an OccLE network and its grid.
        samples: the training set on the spec's grid.
        config: how.
        out: a folder for each phase is made in it, with its checkpoint and log.csv (a row per step).
        device: torch's name of the device.
        initial: a network of the spec's structure whose weights all phases start from; None starts from the seed's.
        hooks: callbacks; the last phase is validated, with its steps done: before it nothing is predicted.
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
    training = PhaseTraining(spec, samples, config, device, initial, hooks, group)
    for phase in config.phases:
        if phase == "student":
            network.geometric.load_state_dict(untrained)
        if not training.run(network, phase, out / phase, out / "teacher"):
            break
    return network


@dataclass(frozen=True)
class PhaseTraining:
    """The training of single phases.

    Args:
        spec, samples, config, device, hooks, group: see `fit_occle`.
        initial: the weights that the first phase started from, where they are not the seed's.
    """

    spec: BundleSpec
    samples: OccleSamples
    config: OccleRecipeConfig
    device: str
    initial: OccLE | None = None
    hooks: TrainingHooks[OccLE] = NO_HOOKS
    group: ProcessGroup = ALONE

    def run(self, network: OccLE, phase: Phase, out: Path, teacher: Path, cells: Path | None = None) -> bool:
        """Train one phase, or resume the run in `out`; a finished one is only loaded.

        Args:
            network: as the phases before left it; in the end on the CPU, in evaluation mode.
            phase: which one.
            out: the phase's folder.
            teacher: the teacher's folder; students read its checkpoint, and its predictions are kept there.
            cells: folder of the 3D pseudo-labels, where the recipe has some; `CELLS` beside `out` if not given.

        Returns:
            whether the phase is finished.
        """
        samples, config, device, group = self.samples, self.config, self.device, self.group
        out.mkdir(parents=True, exist_ok=True)
        group.wait()  # for the first process, which writes the checkpoint of the phase before
        network.to(device)
        steps, clock = steps_of(samples, phase, config), Clock()
        optimizer = begin_phase(network, phase, config)
        classes = taxonomy.load(self.spec.taxonomy)
        self_training = make_self_training(network, phase, classes, config, steps, device)
        parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "clock": clock}
        if self_training is not None:
            parts["self_training"] = self_training
        key = {**run_key(self.spec, samples, config, self.initial), "phase": phase}
        checkpoint = Checkpoint(out / CHECKPOINT, key, parts, config.checkpoint_every)
        done = first = checkpoint.load()
        if first < steps:
            teacher_labels = self._teacher_predictions(teacher) if phase == "student" else None
            workers = loader_processes(config.num_workers, device, group.size)
            evidence = None if phase != "fusion" else scan_evidence(samples, cells or out.parent / CELLS, config, workers, group)
            weights = weights_on(samples.weights(classes.free), device)

            def take_step(step: int, batch: OccleBatch) -> dict[str, float]:
                rate = config.learning_rate * scheduled_rate(step, 0, steps)
                set_learning_rate(optimizer, rate)
                values = run_step(network, phase, batch.to(device), optimizer, weights, config, group, self_training)
                return {**values, "learning_rate": rate, "total": sum(values[name] for name in config.terms(phase))}

            order = PhaseSampler(samples, phase, config, first, steps)
            batches = load_batches(PhaseBatches(samples, phase, config, teacher_labels, group, evidence), order, workers, device)
            hooks = self.hooks if phase == config.phases[-1] else replace(self.hooks, validate=None)
            loop_hooks = hooks.of_loop(phase, lambda: copy.deepcopy(network).cpu().eval())
            file = out / LOG if group.rank == 0 else None
            with (
                TrainingLog(file, (*config.terms(phase), "total"), first, device, config.batch_size) as log,
                sync_batch_norms(network, group),
                matmul_precision(config.precision, device),
            ):
                done = run_steps(batches, take_step, range(first, steps), log, checkpoint, loop_hooks, group)
        network.cpu().eval().requires_grad_(False)
        return done >= steps

    def _teacher_predictions(self, folder: Path) -> TeacherPredictions:
        """The predictions of the teacher whose checkpoint is in `folder`, kept there; those that are missing are made.

        The folder's name says which teacher they are of: after another training they are not taken for the new one's.
        """
        config, device, group = self.config, self.device, self.group
        weights = read_checkpoint(folder / CHECKPOINT)["network"]
        digest = hashlib.sha256(b"".join(value.contiguous().numpy().tobytes() for value in weights.values())).hexdigest()[:12]
        teacher_labels = TeacherPredictions(self.samples, folder / f"teacher_labels-{config.confidence_threshold:g}-{digest}")
        if teacher_labels.missing:
            teacher = fresh_network(self.spec, config)
            teacher.load_state_dict(weights)
            teacher_labels.predict(teacher.to(device).eval().requires_grad_(False), config, device, group)
        group.wait()  # for the others' shares
        return teacher_labels


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


def make_self_training(
    network: OccLE, phase: Phase, classes: Taxonomy, config: OccleRecipeConfig, steps: int, device: str
) -> SelfTraining | None:
    """The averaged network as the teacher of phase III of `steps` steps, where the recipe has one."""
    if phase != "fusion" or config.self_training is None:
        return None
    first = config.self_training.first_step(steps)
    return SelfTraining(network, classes.num_classes, classes.free, config.self_training, first).to(device)


def weights_on(weights: Weights, device: str) -> Weights:
    """The same class weights on a device."""
    return replace(
        weights, pixels=weights.pixels.to(device), voxels=weights.voxels.to(device), geometry=weights.geometry.to(device)
    )
