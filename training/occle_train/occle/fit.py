"""Algorithm 1 from files: `occle-train fit-occle`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, weights_digest
from occle_core.networks.occle.network import OccLE
from occle_train.loop.checkpoints import CHECKPOINT, LOG, Checkpoint, LossLog, read_checkpoint
from occle_train.loop.schedule import seed_everything, warmup_cosine
from occle_train.occle.batches import PhaseBatches, PhaseSampler, steps_of
from occle_train.occle.objectives import Weights
from occle_train.occle.phases import TERMS, OccleRecipeConfig, Phase, begin_phase, run_phase
from occle_train.occle.samples import OccleSamples
from occle_train.occle.teacher_predictions import TeacherPredictions

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

    Returns:
        the network, on the CPU, in evaluation mode.

    Raises:
        ValueError: a checkpoint in `out` was written with another configuration.
        FloatingPointError: a loss is not finite.
    """
    network = fresh_network(spec, config)
    if initial is not None:
        network.load_state_dict(initial.state_dict())
    # The student is of the same structure as its teacher, and trained from the start.
    untaught = copy.deepcopy(network.geometric.state_dict())
    origin = "" if initial is None else weights_digest(spec, initial)
    for phase in config.phases:
        if phase == "student":
            network.geometric.load_state_dict(untaught)
        fit_phase(network, phase, spec, samples, config, out / phase, device, on_progress, out / "teacher", origin)
    return network


def fresh_network(spec: BundleSpec, config: OccleRecipeConfig) -> OccLE:
    """The network with the seed's weights.

    Raises:
        ValueError: the spec is of another network.
    """
    seed_everything(config.seed)
    network = spec.build()
    if not isinstance(network, OccLE):
        raise ValueError(f"{spec.name} is no OccLE network")
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
    origin: str = "",
) -> None:
    """Train one phase, or resume the run in `out`; a finished one is only loaded.

    Args:
        network: as the phases before left it; in the end on the CPU, in evaluation mode.
        phase: which one.
        spec, samples, config, device, on_progress: see `fit_occle`.
        out: the phase's folder.
        teacher: the teacher's folder; students read its checkpoint, and its predictions are kept there.
        origin: digest of the weights that the first phase started from, where they are not the seed's.
    """
    out.mkdir(parents=True, exist_ok=True)
    network.to(device)
    steps = steps_of(samples, phase, config)
    optimizer = begin_phase(network, phase, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, 0, steps))
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    checkpoint = Checkpoint(out / CHECKPOINT, _key(spec, samples, config, phase) + origin, parts)
    first = checkpoint.load()
    if first < steps:
        teacher_labels = _teacher_predictions(spec, samples, config, teacher, device) if phase == "student" else None
        weights = _on(samples.weights(taxonomy.load(spec.taxonomy).free), device)
        order = PhaseSampler(samples, phase, config, first, steps)
        made = PhaseBatches(samples, phase, config, teacher_labels)
        batches = DataLoader(made, batch_size=None, sampler=order, num_workers=config.num_workers)
        started = time.perf_counter()
        with LossLog(out / LOG, (*TERMS[phase], "total"), first) as log:
            for step, batch in enumerate(batches, first):
                losses: dict[str, float] = {}
                run_phase(network, phase, [batch.to(device)], optimizer, weights, config, losses.update)
                schedule.step()
                losses["total"] = sum(losses.values())
                log.row(step, losses, time.perf_counter() - started)
                started = time.perf_counter()
                on_progress(phase, step, steps, losses)
                if (step + 1) % config.checkpoint_every == 0 or step + 1 == steps:
                    checkpoint.save(step + 1)
    network.cpu().eval().requires_grad_(False)


def _teacher_predictions(
    spec: BundleSpec, samples: OccleSamples, config: OccleRecipeConfig, folder: Path, device: str
) -> TeacherPredictions:
    """The predictions of the teacher whose checkpoint is in `folder`, kept there; those that are missing are made."""
    teacher_labels = TeacherPredictions(samples, folder / f"teacher_labels-{config.confidence_threshold:g}")
    if teacher_labels.missing:
        teacher = fresh_network(spec, config)
        teacher.load_state_dict(read_checkpoint(folder / CHECKPOINT)["network"])
        teacher_labels.predict(teacher.to(device).eval().requires_grad_(False), config, device)
    return teacher_labels


def _on(weights: Weights, device: str) -> Weights:
    return replace(
        weights, pixels=weights.pixels.to(device), voxels=weights.voxels.to(device), geometry=weights.geometry.to(device)
    )


def _key(spec: BundleSpec, samples: OccleSamples, config: OccleRecipeConfig, phase: Phase) -> str:
    """Key of a phase's checkpoint: everything that has to be the same when it is resumed."""
    network = spec.model_copy(update={"provenance": {}}).model_dump_json()
    recipe = config.model_dump_json(exclude={"checkpoint_every"})
    return f"{network} {phase} {recipe} {len(samples)} {samples.annotated} {samples.labels.source}"
