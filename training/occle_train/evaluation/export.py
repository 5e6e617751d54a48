# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Getting a bundle ready for inference engines: capacities measured on frames, int8 models, and the parity gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from occle_core.bundle import BundleError, BundleSpec, load_bundle, save_bundle
from occle_core.datasets import Dataset
from occle_core.engines import openvino_engine
from occle_core.engines.base import Engine
from occle_core.engines.loading import load_engine, quantised_file
from occle_core.engines.parity import Parity, compare
from occle_core.engines.static import onnx_file
from occle_core.engines.static.measure import limits_of, measure
from occle_core.engines.torch_engine import TorchEngine
from occle_core.history import past_frames, scans_before
from occle_core.networks import capacities
from occle_core.networks.protocol import NetworkInputs
from occle_core.networks.registry import prepare
from occle_core.taxonomy import load as load_taxonomy


def frames_of(datasets: Sequence[Dataset], spec: BundleSpec, count: int, seed: int = 0) -> Iterator[NetworkInputs]:
    """`count` frames drawn evenly from all sequences, as a network's inputs; all of them if there are fewer."""
    config = spec.network
    every = [(dataset, i) for dataset in datasets for i in range(len(dataset))]
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    for number in sorted(int(n) for n in chosen):
        dataset, i = every[number]
        if config.reads_sweeps:
            frames = scans_before(dataset, i, config.num_frames)
        else:
            frames = [dataset.frame(row) for row in past_frames(dataset, i, config.num_frames, config.frame_stride)]
        yield prepare(frames, spec.voxel_grid, config)


def calibrate(bundle: Path, frames: Sequence[NetworkInputs]) -> BundleSpec:
    """Measure on frames what the static form's tables must hold, and write it into the bundle.

    Returns:
        The new spec: `capacities` for all frames, `typical` for most.

    Raises:
        BundleError: the network prunes everything on all frames; the bundle is left as it is.
    """
    spec, network, _ = load_bundle(bundle)
    counts = measure(network, frames)
    empty = sorted(name for name, rows in counts.items() if not max(rows, default=0))
    if empty:
        raise BundleError(
            f"{bundle} predicts nothing on these {len(frames)} frames (no rows in {', '.join(empty)}), so that no engine can be "
            "measured; are they frames of its rig? Train it longer otherwise: occle-train fit --start-from"
        )
    limits = limits_of(network, spec.network.max_points)
    full = capacities.choose_capacities(counts, limits)
    typical = capacities.choose_capacities(counts, limits, capacities.TYPICAL_PERCENTILE)
    measured = spec.model_copy(update={"capacities": full, "typical": None if typical == full else typical})
    save_bundle(bundle, measured, network)
    return measured


def write_int8(bundle: Path, frames: Sequence[NetworkInputs], on_progress: Callable[[str], None]) -> None:
    """Write the bundle's int8 models, one per set of capacities.

    Raises:
        EngineError: the bundle was not calibrated, or openvino or nncf is not installed.
    """
    spec, network, _ = load_bundle(bundle)
    for size, rows in ((False, spec.capacities), (True, spec.typical)):
        if size and rows is None:
            continue
        sized = spec.model_copy(update={"capacities": rows, "typical": None})
        model = onnx_file.onnx_of(sized, network, on_progress)
        on_progress(f"quantising with {len(frames)} frames, some minutes")
        openvino_engine.quantise(sized, network, model, frames, quantised_file(bundle, size))


def check(
    bundle: Path, engine: str, precision: str, frames: Sequence[NetworkInputs], on_progress: Callable[[str], None]
) -> tuple[Engine, Parity]:
    """An engine of the bundle, and how far it agrees with eager PyTorch on frames.

    Raises:
        BundleError, EngineError: the bundle, or the engine, cannot be used.
    """
    spec, network, _ = load_bundle(bundle)
    examined = load_engine(spec, network, bundle, engine, precision, on_progress=on_progress)
    return examined, compare(examined, TorchEngine(spec, network), frames, load_taxonomy(spec.taxonomy).free)
