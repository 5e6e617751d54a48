# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Steps of OccLE's phases from a time limit: a few steps of each are tried, on a copy, to measure how long they take."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_train.loop.workers import loader_processes
from occle_train.occle.batches import PhaseBatches, PhaseSampler, steps_of
from occle_train.occle.fit import fresh_network, make_self_training, weights_on
from occle_train.occle.kept_targets import ScanEvidence, scan_evidence
from occle_train.occle.phases import OccleRecipeConfig, Phase, begin_phase, run_step
from occle_train.occle.samples import OccleSamples
from occle_train.process_group import ALONE, ProcessGroup

TRIED, UNTIMED = 4, 1
"""Steps of a phase that are tried, and the first of them, which are not timed."""


def fit_phases_to_time(
    spec: BundleSpec,
    samples: OccleSamples,
    config: OccleRecipeConfig,
    cells: Path,
    device: str,
    group: ProcessGroup = ALONE,
) -> OccleRecipeConfig:
    """Set `phase_steps` to what fits into `max_minutes`: the configuration's steps of all phases, scaled by one factor.

    What the measurement takes and the teacher's predictions, a third of a training step each, count as well, and so do the 3D
    pseudo-labels, which are made in the folder `cells`. Several processes agree on the mean of what they measure.
    """
    assert config.max_minutes is not None
    began = time.monotonic()
    evidence = scan_evidence(samples, cells, config, loader_processes(config.num_workers, device, group.size), group)
    tried = config
    if config.self_training is not None:
        # The teacher's steps take longest.
        tried = config.model_copy(update={"self_training": config.self_training.model_copy(update={"start": 0.0})})
    seconds = {phase: _seconds_of_a_step(spec, samples, tried, phase, device, group, evidence) for phase in config.phases}
    steps = {phase: steps_of(samples, phase, config) for phase in config.phases}
    predictions = len(samples) / 3 * seconds.get("student", 0.0) / config.batch_size
    left = 60 * config.max_minutes - (time.monotonic() - began) - predictions
    own = left / sum(seconds[phase] * steps[phase] for phase in config.phases)
    factor = float(group.total(torch.tensor([own], dtype=torch.float64, device=device))[0]) / group.size
    return config.model_copy(update={"phase_steps": {phase: max(1, int(factor * steps[phase])) for phase in config.phases}})


def _seconds_of_a_step(
    spec: BundleSpec,
    samples: OccleSamples,
    config: OccleRecipeConfig,
    phase: Phase,
    device: str,
    group: ProcessGroup,
    evidence: ScanEvidence | None,
) -> float:
    network = fresh_network(spec, config).to(device)
    optimizer = begin_phase(network, phase, config)
    classes = taxonomy.load(spec.taxonomy)
    weights = weights_on(samples.weights(classes.free), device)
    self_training = make_self_training(network, phase, classes, config, TRIED, device)
    shown = evidence if phase == "fusion" else None
    batches = PhaseBatches(samples, phase, config, samples.truth if phase == "student" else None, group, shown)
    times = []
    for address in PhaseSampler(samples, phase, config, 0, TRIED):
        began = time.monotonic()
        run_step(network, phase, batches[address].to(device), optimizer, weights, config, group, self_training)
        times.append(time.monotonic() - began)
    return sorted(times[UNTIMED:])[(TRIED - UNTIMED) // 2]
