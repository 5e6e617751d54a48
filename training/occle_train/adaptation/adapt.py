# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rounds of training on simulated and recorded frames, each with the last round's averaged network as the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.frame import FrameError
from occle_core.networks.minkocc.inputs import MinkOccInputs, prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_train.adaptation.bias import choose_occupancy_bias
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.samples import AdaptSamples
from occle_train.loop.steps import NO_HOOKS, TrainingHooks
from occle_train.minkocc.fit import fit, minkocc_config
from occle_train.minkocc.free_bias import add_free_bias

BIAS_FRAMES = 24
"""Recorded frames on which the free class's bias is measured, at most."""


def round_name(number: int) -> str:
    """Folder of a round, counted from 0, and its name in messages."""
    return f"round-{number + 1}"


def adapt(
    spec: BundleSpec,
    initial: MinkOcc,
    samples: AdaptSamples,
    config: AdaptConfig,
    out: Path,
    device: str = "cpu",
    hooks: TrainingHooks[MinkOcc] = NO_HOOKS,
    log: Callable[[str], None] = lambda text: None,
) -> MinkOcc:
    """Adapt a network to the recorded frames of a training set, or resume the run in `out`.

    Args:
        spec, initial: of the bundle to begin with.
        samples: simulated and recorded frames.
        config: see AdaptConfig.
        out: folder of the rounds, each with its targets, checkpoint and log.csv.
        device: torch's name of the device.
        hooks: callbacks; the phases are the rounds, and validation sees the averaged network with the steps done in all rounds.
        log: called with a line while targets are made.

    Returns:
        the averaged network of the last round, on the CPU, in evaluation mode.

    Raises:
        ValueError: a checkpoint in `out` is of another configuration, data or start.
    """
    network = initial.eval()
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = hooks.should_stop()
        return stopped

    for number in range(config.rounds):
        folder = out / round_name(number)
        samples.begin_round(network, folder / "targets", device, log)
        network = fit(spec, samples, config.round_config(number), folder, device, network, _of_round(hooks, number, config, stop))
        if stopped:
            break
    return network


def _of_round(
    hooks: TrainingHooks[MinkOcc], number: int, config: AdaptConfig, should_stop: Callable[[], bool]
) -> TrainingHooks[MinkOcc]:
    """The callbacks of a round's training, which knows nothing of the rounds before it."""
    validate, before = hooks.validate, number * config.steps
    return TrainingHooks(
        lambda phase, step, losses: hooks.on_progress(round_name(number), step, losses),
        should_stop,
        None if validate is None else lambda step, network: validate(before + step, network),
        hooks.validate_every,
    )


def set_occupancy_bias(network: MinkOcc, spec: BundleSpec, samples: AdaptSamples) -> float:
    """Measure on recorded frames how strong the free class is to be, and put it into the weights."""
    free = taxonomy.load(spec.taxonomy).free
    bias = choose_occupancy_bias(network, _recorded(spec, samples), free)
    add_free_bias(network, free, bias)
    return bias


def _recorded(spec: BundleSpec, samples: AdaptSamples) -> Iterator[tuple[MinkOccInputs, NDArray[np.uint8]]]:
    items = samples.recorded_items
    for item in items[:: max(1, -(-len(items) // BIAS_FRAMES))]:
        try:
            yield prepare(samples.frame(item), spec.voxel_grid, minkocc_config(spec)), samples.target(item)
        except FrameError:
            continue  # the training has named it
