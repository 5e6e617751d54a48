# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training of MinkOcc, on voxel labels or by the label-efficient recipe."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.network import MinkOcc
from occle_train.data.samples import Samples
from occle_train.loop.checkpoints import CHECKPOINT, Checkpoint, read_checkpoint
from occle_train.loop.minkowski_backend import use_minkowski
from occle_train.loop.precision import matmul_precision
from occle_train.loop.run_key import run_key
from occle_train.loop.running_average import running_average
from occle_train.loop.sampling import BatchSampler
from occle_train.loop.schedule import blend_matching, copy_matching, scheduled_rate, seed_everything, set_learning_rate
from occle_train.loop.steps import NO_HOOKS, Clock, TrainingHooks, run_steps, shared_seconds
from occle_train.loop.sync_batch_norm import sync_batch_norms
from occle_train.loop.training_log import LOG, TrainingLog
from occle_train.loop.workers import load_batches, loader_processes
from occle_train.losses.minkocc import class_balanced_weights
from occle_train.minkocc.batches import MinkOccBatch, TrainingSet
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.free_bias import never_free
from occle_train.minkocc.image_head import ImageHead
from occle_train.minkocc.self_training import SelfTraining
from occle_train.minkocc.trainer import Trainer, make_head
from occle_train.process_group import ALONE, ProcessGroup
from occle_train.rendering.head import SphereHead


def fit(
    spec: BundleSpec,
    samples: Samples,
    config: FitConfig,
    out: Path,
    device: str = "cpu",
    initial: MinkOcc | None = None,
    hooks: TrainingHooks[MinkOcc] = NO_HOOKS,
    group: ProcessGroup = ALONE,
    spent: float = 0.0,
) -> MinkOcc:
    """Train, or resume the run in `out`.

    Args:
        spec: the network and its grid.
        samples: frames on the spec's grid: RecipeSamples for a recipe.
        config: how.
        out: folder of the checkpoint and of log.csv (a row per step).
        device: torch's name of the device.
        initial: weights to start from where names and shapes agree; None starts from scratch.
        hooks: callbacks; there is one phase, "training", and validation sees the averaged network.
        group: the processes that train together; each returns the same network, the first writes.
        spent: seconds of `config.max_minutes` that are over when the training begins.

    Returns:
        the network with the averaged weights, on the CPU, in evaluation mode.

    Raises:
        ValueError: the checkpoint in `out` is of another configuration, data or start, or the batch cannot be shared out evenly.
        FloatingPointError: the loss is not finite.
        ModuleNotFoundError: MinkowskiEngine is asked for and not installed.
    """
    if config.batch_size % group.size:
        raise ValueError(f"batch_size {config.batch_size} cannot be shared out evenly over {group.size} processes")
    config = config.for_frames(len(samples))
    seed_everything(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    trainer = make_trainer(spec, samples, config, device, initial, group)
    network = trainer.network
    average = running_average(network, config.ema_decay)
    trainer.self_training = make_self_training(spec, samples, config, average, device)
    clock = Clock(spent)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": trainer.optimizer, "clock": clock}
    if trainer.head is not None:
        parts["head"] = trainer.head
    if trainer.image_head is not None:
        parts["image_head"] = trainer.image_head
    if trainer.self_training is not None:
        parts["self_training"] = trainer.self_training
    checkpoint = Checkpoint(out / CHECKPOINT, run_key(spec, samples, config, initial), parts, config.checkpoint_every)
    first = checkpoint.load()
    warmup = min(config.warmup_steps, config.steps // 4)
    limit = 60 * config.max_minutes if config.max_minutes else None

    def take_step(step: int, batch: MinkOccBatch) -> dict[str, float]:
        seconds = clock.seconds if limit is None else shared_seconds(clock, group, device)
        rate = scheduled_rate(step, warmup, config.steps, seconds, limit)
        set_learning_rate(trainer.optimizer, config.learning_rate * rate)
        values = trainer.step(step, batch.to(device))
        average.update_parameters(network)
        return values

    def averaged() -> MinkOcc:
        found = copy.deepcopy(average.module).cpu().eval()
        assert isinstance(found, MinkOcc)
        if initial is not None and config.initial_share:
            blend_matching(initial, found, config.initial_share)
        return found

    loop_hooks = hooks.of_loop("training", averaged, lambda: limit is not None and clock.seconds >= limit)
    network.train()
    engine = use_minkowski(network) if config.sparse_backend == "minkowski" else nullcontext()
    writes = group.rank == 0
    with (
        TrainingLog(out / LOG if writes else None, trainer.losses, first, device, config.batch_size) as log,
        engine,
        sync_batch_norms(network, group),
        matmul_precision(config.precision, device),
    ):
        batches = make_loader(spec, samples, config, group, device, first)
        run_steps(batches, take_step, range(first, config.steps), log, checkpoint, loop_hooks, group)
    return averaged()


def make_trainer(
    spec: BundleSpec, samples: Samples, config: FitConfig, device: str, initial: MinkOcc | None, group: ProcessGroup = ALONE
) -> Trainer:
    """The network, its renderer and optimiser, before the first step."""
    classes = taxonomy.load(spec.taxonomy)
    network = MinkOcc(minkocc_config(spec), classes.num_classes, spec.grid.shape).to(device)
    if initial is not None:
        copy_matching(initial, network)
    if not config.teaches_free:
        never_free(network, classes.free)
    head = make_head(spec, config)
    if head is not None:
        head = head.to(device)
    image_head = None
    if config.losses.image_semantics and samples.pixel_size is not None:
        image_head = ImageHead(network.config.image, classes.num_classes).to(device)
    parameters = [parameter for part in (network, head, image_head) if part is not None for parameter in part.parameters()]
    # One kernel for all weights; on a CPU the results would change.
    fused = True if device.startswith("cuda") else None
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
    weights = [
        class_balanced_weights(torch.from_numpy(counts), config.class_balance_beta).to(device)
        for counts in (samples.class_counts(classes.num_classes), samples.pixel_counts(classes.num_classes))
    ]
    return Trainer(network, head, optimizer, (weights[0], weights[1]), classes.free, config, group, image_head)


def make_self_training(
    spec: BundleSpec, samples: Samples, config: FitConfig, average: AveragedModel, device: str
) -> SelfTraining | None:
    """The averaged network as the teacher, where the recipe has one."""
    if config.recipe is None or config.recipe.self_training is None:
        return None
    classes, teacher = taxonomy.load(spec.taxonomy), average.module
    assert isinstance(teacher, MinkOcc)
    counts = samples.pixel_counts(classes.num_classes) + samples.class_counts(classes.num_classes)
    weights = class_balanced_weights(torch.from_numpy(counts), config.class_balance_beta)
    return SelfTraining(teacher, weights, classes.free, config.recipe.self_training).to(device)


def make_loader(
    spec: BundleSpec, samples: Samples, config: FitConfig, group: ProcessGroup, device: str, first: int
) -> DataLoader[MinkOccBatch]:
    """The batches of the steps from `first` on."""
    free = taxonomy.load(spec.taxonomy).free
    batches = TrainingSet(samples, spec.voxel_grid, minkocc_config(spec), config.sampling_plan, free, group)
    order = BatchSampler(len(samples), config.sampling_plan, first, samples.warm, samples.weak)
    return load_batches(batches, order, loader_processes(config.num_workers, device, group.size), device)


def minkocc_config(spec: BundleSpec) -> MinkOccConfig:
    """The sizes of a MinkOcc network.

    Raises:
        ValueError: the spec is of another network.
    """
    if not isinstance(spec.network, MinkOccConfig):
        raise ValueError(f"{spec.name} is an {spec.network.kind} network, which is trained in another way: occle-train fit-occle")
    return spec.network


def load_head(spec: BundleSpec, config: FitConfig, out: Path) -> SphereHead:
    """The trained renderer of a finished recipe, from the checkpoint in `out`."""
    head = make_head(spec, config)
    if head is None:
        raise ValueError("only a recipe that renders has a renderer")
    head.load_state_dict(read_checkpoint(out / CHECKPOINT)["head"])
    return head.eval()
