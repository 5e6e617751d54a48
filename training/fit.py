"""Supervised training of MinkOcc: `occle-train fit`."""

from __future__ import annotations

import csv
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.config import Config
from occle_core.inputs import Inputs, collate, prepare
from occle_core.nn.minkocc import MinkOcc
from training.augment import AugmentConfig, augment
from training.losses import class_balanced_weights, occupancy_pyramid, supervised_loss
from training.samples import Samples

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"
LOSSES = ("semantic", "occupancy", "total")


class FitConfig(Config):
    """How to train."""

    steps: int = Field(4000, ge=1, description="optimiser steps")
    batch_size: int = Field(2, ge=1, description="frames per step")
    learning_rate: float = Field(2e-3, gt=0, description="peak of the cosine schedule")
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled decay")
    semantic: float = Field(0.5, ge=0, description="weight of the class loss (the paper's lambda_1)")
    occupancy: float = Field(1.0, ge=0, description="weight of the pruning losses (the paper's lambda_2)")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    beta: float = Field(0.99999, ge=0, lt=1, description="of the effective number of voxels per class; 0.9 weighs all alike")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the running average of the weights, which is what is kept")
    seed: int = Field(0, description="of weights, order and augmentation")
    augment: AugmentConfig = AugmentConfig()
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    workers: int = Field(0, ge=0, description="loader processes; 0 loads in the training process and keeps frames in memory")


def fit(
    spec: BundleSpec,
    samples: Samples,
    config: FitConfig,
    out: Path,
    device: str = "cpu",
    progress: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    initial: MinkOcc | None = None,
) -> MinkOcc:
    """Train, or go on training what `out` holds.

    Args:
        spec: the network and its grid.
        samples: labelled frames on the spec's grid.
        config: how.
        out: folder of the checkpoint and of log.csv (a row per step).
        device: torch's name of the device.
        progress: called after every step with its number and losses.
        initial: weights to start from where names and shapes agree; None starts from scratch.

    Returns:
        the network with the averaged weights, on the CPU, in evaluation mode.

    Raises:
        ValueError: the checkpoint in `out` was written with another configuration.
    """
    seed_everything(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    classes = taxonomy.load(spec.taxonomy)
    network = spec.build().to(device)
    if initial is not None:
        copy_matching(initial, network)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True)  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.warmup, config.steps))
    state = _State(spec, config, network, average, optimizer, schedule)
    first = state.load(out / CHECKPOINT)
    counts = torch.from_numpy(samples.class_counts(classes.num_classes))
    weights = class_balanced_weights(counts, config.beta).to(device)
    loader = DataLoader(
        TrainingSet(samples, spec, config), batch_size=None, sampler=Order(len(samples), config, first), num_workers=config.workers
    )
    network.train()
    with _Log(out / LOG, first) as log:
        for step, (inputs, target) in enumerate(loader, first):
            started = time.perf_counter()
            losses = train_step(network, optimizer, inputs.to(device), target.to(device), weights, classes.free, config)
            schedule.step()
            average.update_parameters(network)
            log.row(step, losses, time.perf_counter() - started)
            progress(step, losses)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                state.save(out / CHECKPOINT, step + 1)
    trained = average.module.cpu().eval()
    assert isinstance(trained, MinkOcc)
    return trained


def train_step(
    network: MinkOcc,
    optimizer: torch.optim.Optimizer,
    inputs: Inputs,
    target: Tensor,
    weights: Tensor,
    free: int,
    config: FitConfig,
) -> dict[str, float]:
    """One optimiser step on a batch; target (B, X, Y, Z) uint8. Returns the losses.

    Raises:
        FloatingPointError: the loss is not finite; the weights are left as they were.
    """
    pyramid = occupancy_pyramid(target, free, len(network.unet.up))
    prediction = network(inputs, occupied=[level == 1 for level in pyramid])
    losses = supervised_loss(prediction, target, pyramid, weights, config.semantic, config.occupancy)
    if not bool(torch.isfinite(losses["total"])):
        raise FloatingPointError(f"the loss is {float(losses['total'])}; lower the learning rate")
    optimizer.zero_grad()
    losses["total"].backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()}


class TrainingSet(TorchDataset[tuple[Inputs, Tensor]]):
    """Augmented batches, addressed by (step, frames): the same address gives the same batch."""

    def __init__(self, samples: Samples, spec: BundleSpec, config: FitConfig) -> None:
        self.samples, self.spec, self.config = samples, spec, config

    def __getitem__(self, address: tuple[int, list[int]]) -> tuple[Inputs, Tensor]:
        """The batch's inputs and target (B, X, Y, Z) uint8."""
        step, items = address
        parts, targets = [], []
        for number, item in enumerate(items):
            rng = np.random.default_rng((self.config.seed, step, number))
            frame, truth = augment(*self.samples[item], self.spec.voxel_grid, self.config.augment, rng)
            parts.append(prepare(frame, self.spec.voxel_grid, self.spec.network))
            targets.append(torch.from_numpy(truth))
        return collate(parts), torch.stack(targets)


class Order:
    """The frames of every step from `first` on: each epoch is a permutation of its own."""

    def __init__(self, count: int, config: FitConfig, first: int) -> None:
        self.count, self.config, self.first = count, config, first

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for step in range(self.first, self.config.steps):
            places = range(step * self.config.batch_size, (step + 1) * self.config.batch_size)
            yield step, [int(self._permutation(place // self.count)[place % self.count]) for place in places]

    def __len__(self) -> int:
        return self.config.steps - self.first

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.config.seed, epoch)).permutation(self.count)


def warm_cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the peak learning rate: linear up to `warmup`, then a half cosine to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that use the global generator
    torch.manual_seed(seed)


def copy_matching(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights whose names and shapes agree; a head of another class list keeps its own."""
    own = target.state_dict()
    own.update({name: value for name, value in source.state_dict().items() if name in own and own[name].shape == value.shape})
    target.load_state_dict(own)


class _State:
    """Everything that a run goes on from."""

    def __init__(
        self,
        spec: BundleSpec,
        config: FitConfig,
        network: MinkOcc,
        average: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
    ) -> None:
        self.key = spec.model_copy(update={"provenance": {}}).model_dump_json() + config.model_dump_json()
        self.parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer, "schedule": schedule}

    def save(self, path: Path, step: int) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save({"key": self.key, "step": step, "torch_rng": torch.get_rng_state(), **states}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> int:
        """The next step: 0 where there is no checkpoint."""
        if not path.exists():
            return 0
        saved = torch.load(path, weights_only=True)
        if saved["key"] != self.key:
            raise ValueError(f"{path} was written with another configuration; use another --out, or delete it to start afresh")
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["torch_rng"])
        return int(saved["step"])


class _Log:
    """log.csv: a row per step; rows after the checkpoint that a run goes on from are dropped."""

    def __init__(self, path: Path, first: int) -> None:
        rows = list(csv.reader(path.open()))[1 : first + 1] if first and path.exists() else []
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerows([("step", *LOSSES, "seconds"), *rows])

    def row(self, step: int, losses: dict[str, float], seconds: float) -> None:
        self._writer.writerow((step, *(f"{losses[name]:.5f}" for name in LOSSES), f"{seconds:.3f}"))
        if step % 20 == 0:
            self._file.flush()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
