"""Training of MinkOcc: `occle-train fit`, on voxel labels or by the label-efficient recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.config import Config
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.networks.minkocc.network import MinkOcc
from occle_train.data.augment import AugmentConfig
from occle_train.data.samples import Samples
from occle_train.data.truth import MaskName
from occle_train.loop.checkpoints import CHECKPOINT, LOG, Checkpoint, LossLog, read_checkpoint
from occle_train.loop.minkowski_backend import use_minkowski
from occle_train.loop.parallel import ProcessGroup, sync_batch_norms
from occle_train.loop.sampling import BatchSampler, SamplingPlan
from occle_train.loop.schedule import copy_matching, seed_everything, warmup_cosine
from occle_train.losses.minkocc import class_balanced_weights, class_loss, occupancy_pyramid, occupied_class_loss, supervised_loss
from occle_train.minkocc.batches import MinkOccBatch, TrainingSet
from occle_train.minkocc.recipe import MinkOccRecipeConfig
from occle_train.rendering.head import SphereHead

ALONE = ProcessGroup()
UNRELATED = {"num_workers", "checkpoint_every"}
"""Settings that change no result: a run can be resumed with other values."""


class FitConfig(Config):
    """Training settings."""

    steps: int = Field(4000, ge=1, description="optimiser steps")
    batch_size: int = Field(2, ge=1, description="frames per step, over all processes")
    learning_rate: float = Field(2e-3, gt=0, description="peak of the cosine schedule")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled decay; 0 is Adam")
    semantic_weight: float = Field(0.5, ge=0, description="weight of the class losses in 3D and 2D (the paper's lambda_1)")
    occupancy_weight: float = Field(1.0, ge=0, description="weight of the pruning losses (the paper's lambda_2)")
    grad_clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    class_balance_beta: float = Field(
        0.99999, ge=0, lt=1, description="of the effective number of cells or pixels of a class; 0.9 weighs all alike"
    )
    ema_decay: float = Field(0.998, ge=0, lt=1, description="decay of the running average of the weights, which is what is kept")
    seed: int = Field(0, description="of weights, order and augmentation")
    truth_mask: MaskName = Field(
        "camera", description="whose sight makes a cell of Occ3D's truth count: camera (the benchmark's), lidar, either or none"
    )
    augment: AugmentConfig = AugmentConfig()
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    num_workers: int = Field(0, ge=0, description="loader processes; 0 loads in the training process and keeps frames in memory")
    epochs: int | None = Field(None, ge=1, description="passes over the frames; sets `steps` if given")
    sparse_backend: Literal["occle", "minkowski"] = Field(
        "occle", description="what computes sparse convolutions; minkowski needs MinkowskiEngine"
    )
    recipe: MinkOccRecipeConfig | None = Field(None, description="the label-efficient recipe; without: voxel labels only")

    def for_frames(self, count: int) -> FitConfig:
        """The configuration whose `steps` are as many as `epochs` passes over `count` frames take."""
        if self.epochs is None:
            return self
        return self.model_copy(update={"steps": math.ceil(self.epochs * count / self.batch_size), "epochs": None})

    @property
    def sampling_plan(self) -> SamplingPlan:
        """Settings that determine the frames of every step."""
        switch = self.recipe.switch_step(self.steps) if self.recipe else self.steps
        views = self.recipe.num_views if self.recipe else 0
        repeat = self.recipe.min_labelled_fraction if self.recipe and self.recipe.alpha and self.recipe.keep_voxel_labels else 0.0
        return SamplingPlan(self.seed, self.steps, self.batch_size, switch, views, self.augment, repeat)

    def grad_clip_at(self, step: int) -> float:
        """Largest norm of the gradient: smaller just after the warm start, where the losses change (Sec. V-B)."""
        switch = self.sampling_plan.switch_step
        if self.recipe and 0 < switch <= step < switch + self.recipe.switch_steps:
            return min(self.grad_clip, self.recipe.switch_grad_clip)
        return self.grad_clip


def fit(
    spec: BundleSpec,
    samples: Samples,
    config: FitConfig,
    out: Path,
    device: str = "cpu",
    on_progress: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    initial: MinkOcc | None = None,
    group: ProcessGroup = ALONE,
) -> MinkOcc:
    """Train, or resume the run in `out`.

    Args:
        spec: the network and its grid.
        samples: frames on the spec's grid: RecipeSamples for a recipe.
        config: how.
        out: folder of the checkpoint and of log.csv (a row per step).
        device: torch's name of the device.
        on_progress: called after every step with its number and losses.
        initial: weights to start from where names and shapes agree; None starts from scratch.
        group: the processes that train together; each returns the same network, the first writes.

    Returns:
        the network with the averaged weights, on the CPU, in evaluation mode.

    Raises:
        ValueError: the checkpoint in `out` was written with another configuration, or the batch cannot be shared out evenly.
        ModuleNotFoundError: MinkowskiEngine is asked for and not installed.
    """
    if config.batch_size % group.size:
        raise ValueError(f"batch_size {config.batch_size} cannot be shared out evenly over {group.size} processes")
    config = config.for_frames(len(samples))
    seed_everything(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    classes = taxonomy.load(spec.taxonomy)
    sizes = minkocc_config(spec)
    network = MinkOcc(sizes, classes.num_classes, spec.grid.shape).to(device)
    if initial is not None:
        copy_matching(initial, network)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)  # type: ignore[no-untyped-call]
    parts: dict[str, Any] = {"network": network, "average": average}
    head = make_head(spec, config)
    if head is not None:
        parts["head"] = head.to(device)
    parameters = [p for name in ("network", "head") if name in parts for p in parts[name].parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, config.warmup_steps, config.steps))
    parts.update(optimizer=optimizer, schedule=schedule)
    key = spec.model_copy(update={"provenance": {}}).model_dump_json() + config.model_dump_json(exclude=UNRELATED)
    checkpoint = Checkpoint(out / CHECKPOINT, key, parts)
    first = checkpoint.load()
    weights = [
        class_balanced_weights(torch.from_numpy(counts), config.class_balance_beta).to(device)
        for counts in (samples.class_counts(classes.num_classes), samples.pixel_counts(classes.num_classes))
    ]
    trainer = Trainer(network, head, optimizer, (weights[0], weights[1]), classes.free, config, group)
    batches = TrainingSet(samples, spec.voxel_grid, sizes, config.sampling_plan, classes.free, group)
    order = BatchSampler(len(samples), config.sampling_plan, first, samples.warm)
    loader = DataLoader(batches, batch_size=None, sampler=order, num_workers=config.num_workers)
    network.train()
    engine = use_minkowski(network) if config.sparse_backend == "minkowski" else nullcontext()
    with LossLog(out / LOG if group.rank == 0 else None, trainer.losses, first) as log, engine, sync_batch_norms(network, group):
        for step, batch in enumerate(loader, first):
            started = time.perf_counter()
            losses = trainer.step(step, batch.to(device))
            schedule.step()
            average.update_parameters(network)
            log.row(step, losses, time.perf_counter() - started)
            on_progress(step, losses)
            if group.rank == 0 and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
                checkpoint.save(step + 1)
    trained = average.module.cpu().eval()
    assert isinstance(trained, MinkOcc)
    return trained


class Trainer:
    """One optimiser step after the other.

    Args:
        network: in training mode.
        head: the renderer, where there is a recipe that renders.
        optimizer: of both.
        weights: (C,) class weights of voxels and of pixels.
        free: id of the free class.
        config: how.
        group: the processes that train together.
    """

    def __init__(
        self,
        network: MinkOcc,
        head: SphereHead | None,
        optimizer: torch.optim.Optimizer,
        weights: tuple[Tensor, Tensor],
        free: int,
        config: FitConfig,
        group: ProcessGroup,
    ) -> None:
        self.network, self.head, self.optimizer = network, head, optimizer
        self.weights, self.free, self.config, self.group = weights, free, config, group
        self.losses = ("semantic", "occupancy", *(("pseudo",) if config.recipe is not None else ()), "total")

    def step(self, step: int, batch: MinkOccBatch) -> dict[str, float]:
        """One step on this process's share of a batch. Returns the whole batch's losses.

        Raises:
            FloatingPointError: the loss is not finite; the weights are left as they were.
        """
        losses = self._losses(step, batch)
        values = self.group.total(torch.stack([losses[name].detach() for name in self.losses]))
        if not bool(torch.isfinite(values).all()):
            raise FloatingPointError(f"the loss is {float(values[-1])}; lower the learning rate")
        self.optimizer.zero_grad()
        losses["total"].backward()  # type: ignore[no-untyped-call]
        parameters = [p for part in self.optimizer.param_groups for p in part["params"]]
        self.group.add_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, self.config.grad_clip_at(step))
        self.optimizer.step()
        return dict(zip(self.losses, values.tolist()))

    def _losses(self, step: int, batch: MinkOccBatch) -> dict[str, Tensor]:
        """Eq. 6: before the switch voxel labels and occupancy, after it pseudo-labels and occupancy (and the kept voxel labels)."""
        config, total = self.config, self.group.total
        pyramid = occupancy_pyramid(batch.occupancy, 0, len(self.network.unet.up))
        prediction = self.network(batch.inputs, occupied=[level == 1 for level in pyramid])
        voxels, pixels = self.weights
        losses = supervised_loss(prediction, batch.labels, pyramid, voxels, config.semantic_weight, config.occupancy_weight, total)
        if config.recipe is not None:
            pseudo = torch.zeros_like(losses["total"])
            if step >= config.sampling_plan.switch_step:
                if self.head is not None:
                    pseudo = self.head.loss(prediction.classes, batch.occupancy, batch.views, pixels, total)
                if config.recipe.lift_weight:
                    pseudo = pseudo + config.recipe.lift_weight * class_loss(prediction.classes, batch.lifted, pixels, total)
                pseudo = config.semantic_weight * pseudo
                unlabelled = torch.where(batch.labels == 255, batch.occupancy, 255).to(torch.uint8)
                free_space = config.occupancy_weight * occupied_class_loss(prediction.classes, unlabelled, self.free, total)
                losses["occupancy"] = losses["occupancy"] + free_space
            losses["pseudo"] = pseudo
            losses["total"] = losses["semantic"] + losses["occupancy"] + pseudo
        return losses


def minkocc_config(spec: BundleSpec) -> MinkOccConfig:
    """The sizes of a MinkOcc network.

    Raises:
        ValueError: the spec is of another network.
    """
    if not isinstance(spec.network, MinkOccConfig):
        raise ValueError(f"{spec.name} is an {spec.network.kind} network, which is trained in another way: occle-train fit-occle")
    return spec.network


def make_head(spec: BundleSpec, config: FitConfig) -> SphereHead | None:
    """The recipe's renderer with fresh weights; None without a recipe, and where it renders nothing."""
    if config.recipe is None or not config.recipe.num_views:
        return None
    classes, recipe = taxonomy.load(spec.taxonomy), config.recipe
    return SphereHead(classes.num_classes, classes.free, spec.voxel_grid, recipe.gamma, recipe.max_depth, recipe.shader_channels)


def load_head(spec: BundleSpec, config: FitConfig, out: Path) -> SphereHead:
    """The trained renderer of a finished recipe, from the checkpoint in `out`."""
    head = make_head(spec, config)
    if head is None:
        raise ValueError("only a recipe that renders has a renderer")
    head.load_state_dict(read_checkpoint(out / CHECKPOINT)["head"])
    return head.eval()
