"""The phases of OccLE's training (Algorithm 1): which parts learn, from what, for how long."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from occle_core.config import Config
from occle_core.nn.occle import OccLE
from training.occle.augment import STUDENT, TEACHER, OccleAugment
from training.occle.objectives import Batch, Weights, fusion_loss, geometric_loss, semantic_loss
from training.occle.teacher import confident

Phase = Literal["semantic", "teacher", "student", "fusion"]
Loss = Callable[[OccLE, Batch, Weights], dict[str, Tensor]]

LEARNING: dict[Phase, tuple[str, ...]] = {
    "semantic": ("semantic",),
    "teacher": ("geometric",),
    "student": ("geometric",),
    "fusion": ("semantic", "fusion"),
}
"""The network's parts that a phase trains; the others are frozen, batch statistics included."""

LOSSES: dict[Phase, Loss] = {
    "semantic": semantic_loss,
    "teacher": geometric_loss,
    "student": geometric_loss,
    "fusion": fusion_loss,
}
"""(Algorithm 1 prints l_sem for phase II as well; Eq. 6 defines l_geo for it.)"""


class RecipeConfig(Config):
    """OccLE's training (Sec. 4.2), with the paper's values as defaults."""

    epochs: int = Field(40, ge=1, description="passes over the frames of phases I, III and of the student")
    teacher_epochs: int = Field(100, ge=1, description="passes of the teacher over the annotated frames")
    batch_size: int = Field(1, ge=1, description="frames per step")
    learning_rate: float = Field(2e-4, gt=0, description="AdamW's initial learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's decoupled decay")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    annotated: float = Field(0.1, gt=0, le=1, description="share of the frames whose voxel annotations are used")
    confidence: float = Field(0.9, ge=0, le=1, description="least confidence of a teacher's prediction; the paper gives none")
    teacher: OccleAugment = TEACHER
    student: OccleAugment = STUDENT
    seed: int = Field(0, description="of weights, order and augmentation")

    def epochs_of(self, phase: Phase) -> int:
        """How many passes a phase makes."""
        return self.teacher_epochs if phase == "teacher" else self.epochs


def begin(network: OccLE, phase: Phase, config: RecipeConfig) -> torch.optim.AdamW:
    """Set the network up for a phase: what learns is in training mode, everything else is frozen, in evaluation mode.

    Returns:
        the optimiser of the learning parts.
    """
    network.eval().requires_grad_(False)
    parameters = []
    for name in LEARNING[phase]:
        part = network.get_submodule(name).train().requires_grad_(True)
        parameters += list(part.parameters())
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def run(
    network: OccLE,
    phase: Phase,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    weights: Weights,
    config: RecipeConfig,
    progress: Callable[[dict[str, float]], None] = lambda losses: None,
) -> None:
    """One pass over the batches, after `begin`.

    Raises:
        FloatingPointError: a loss is not finite; the weights are left as they were.
    """
    for batch in batches:
        terms = LOSSES[phase](network, batch, weights)
        total = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(f"phase {phase}: the loss is {float(total.detach())}; lower the learning rate")
        optimizer.zero_grad()
        if total.requires_grad:
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], config.clip)
            optimizer.step()
        progress({name: float(value.detach()) for name, value in terms.items()})


def teacher_of(network: OccLE) -> OccLE:
    """A copy of the network whose trained geometric branch is the teacher; the original may start its student afresh."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def teach(teacher: OccLE, batch: Batch, config: RecipeConfig) -> Tensor:
    """(B, X, Y, Z) uint8 geometry that the teacher is sure of: Algorithm 1's predictions for unannotated frames."""
    grid = teacher.geometry(batch.inputs, teacher.cells(batch.inputs))
    return confident(teacher.geometric.logits(grid), config.confidence)
