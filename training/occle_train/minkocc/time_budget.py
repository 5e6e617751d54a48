# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A training's number of steps from a time limit: a few steps are tried, on a copy, to measure how long one takes."""

from __future__ import annotations

import time

import torch

from occle_core.bundle import BundleSpec
from occle_train.data.samples import Samples
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import make_loader, make_trainer
from occle_train.process_group import ALONE, ProcessGroup

TRIED, UNTIMED = 8, 2
"""Steps that are tried of each kind (before and after the switch to weak targets), and the first of them, which are not timed."""


def fit_steps_to_time(
    spec: BundleSpec, samples: Samples, config: FitConfig, device: str, group: ProcessGroup = ALONE
) -> tuple[FitConfig, float]:
    """Set `steps` to what fits into `max_minutes`.

    Returns:
        the configuration, and the seconds that the measurement took, which count as the run's.
    """
    minutes = config.max_minutes
    assert minutes is not None
    began = time.monotonic()
    config = config.for_frames(len(samples))
    tried = config.model_copy(update={"steps": 10**6, "num_workers": 0})
    switch = tried.sampling_plan.switch_step
    warm = _seconds_of_a_step(spec, samples, tried, device, group, 0) if switch > 0 else 0.0
    weak = _seconds_of_a_step(spec, samples, tried, device, group, switch) if switch < tried.steps else 0.0
    share = switch / tried.steps
    spent = float(group.total(torch.tensor([time.monotonic() - began], device=device))[0]) / group.size
    average = share * warm + (1 - share) * weak
    steps = max(1, int((60 * minutes - spent) / max(average, 1e-6)))
    return config.model_copy(update={"steps": steps}), spent


def _seconds_of_a_step(
    spec: BundleSpec, samples: Samples, config: FitConfig, device: str, group: ProcessGroup, first: int
) -> float:
    """Median seconds of a step from `first` on; the mean over all processes."""
    trainer = make_trainer(spec, samples, config, device, None, group)
    trainer.network.train()
    times = []
    began = time.monotonic()
    for step, batch in enumerate(make_loader(spec, samples, config, group, device, first), first):
        trainer.step(step, batch.to(device))
        times.append(time.monotonic() - began)
        began = time.monotonic()
        if len(times) == TRIED:
            break
    median = sorted(times[UNTIMED:])[(TRIED - UNTIMED) // 2]
    return float(group.total(torch.tensor([median], device=device))[0]) / group.size
