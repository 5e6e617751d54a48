# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""End of MinkOcc's training: the free class's bias, measured on labelled training frames and put into the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleSpec
from occle_core.frame import FrameError
from occle_core.networks.minkocc.inputs import MinkOccInputs, prepare
from occle_core.networks.minkocc.network import MinkOcc
from occle_train.data.samples import Samples
from occle_train.minkocc.fit import minkocc_config
from occle_train.minkocc.free_bias import add_free_bias, choose_free_bias

FREE_BIAS_FRAMES = 100
"""Largest number of labelled frames that the bias of a finished network is measured on."""


def set_free_bias(network: MinkOcc, spec: BundleSpec, samples: Samples, most: int = FREE_BIAS_FRAMES) -> float:
    """Measure how strong the free class is to be on at most `most` labelled frames, and put it into the weights."""
    items = samples.labelled()
    free = taxonomy.load(spec.taxonomy).free
    bias = choose_free_bias(network, _prepared(spec, samples, items[:: max(1, -(-len(items) // most))]), free)
    add_free_bias(network, free, bias)
    return bias


def training_inputs(spec: BundleSpec, samples: Samples, most: int) -> Iterator[MinkOccInputs]:
    """Inputs of about `most` training frames, labelled ones where there are any."""
    items = list(samples.labelled()) or list(range(len(samples)))
    for item in items[:: max(1, -(-len(items) // most))]:
        try:
            yield prepare(samples.frame(item), spec.voxel_grid, minkocc_config(spec))
        except FrameError:
            continue  # the training has named it


def _prepared(spec: BundleSpec, samples: Samples, items: Sequence[int]) -> Iterator[tuple[MinkOccInputs, NDArray[np.uint8]]]:
    """Inputs and labels of the frames that a network can use."""
    for item in items:
        try:
            inputs = prepare(samples.frame(item), spec.voxel_grid, minkocc_config(spec))
        except FrameError:
            continue  # the training has named it
        yield inputs, samples.truth(item)
