# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`auto` on CUDA: the recorded graph where its labels are the eager network's on this machine, the eager network elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch

from occle_core.bundle import BundleSpec
from occle_core.engines.base import Engine
from occle_core.engines.choice.timing import POINTS, synthetic
from occle_core.engines.cuda.requirements import check_precision
from occle_core.engines.parity import Parity, compare
from occle_core.engines.static.fallback import FallbackEngine
from occle_core.errors import EngineError
from occle_core.taxonomy import load as load_taxonomy

LEAST_POINTS = 1000


def cuda_engine(
    spec: BundleSpec, load: Callable[[str, str], Engine], precision: str, on_progress: Callable[[str], None] = lambda text: None
) -> Engine:
    """The CUDA graph if it can be recorded and passes the parity gate on a made-up street; frames that do not fit run eagerly.

    Args:
        spec: the bundle's spec.
        load: gives an engine by its name and precision; EngineError where it does not work here.
        precision: "fp32" or "fp16", of the graph; the eager network runs in fp32.
        on_progress: called with what takes long, and why the graph is passed over.

    Raises:
        EngineError: there is no such precision, or not even the eager network works here.
    """
    check_precision("auto on a GPU", precision)
    eager = load("torch", "fp32")
    try:
        graph = load("torch_graph", precision)
        parity = check_parity(graph, eager, spec)
    except Exception as error:  # exports, drivers and too little memory raise errors of many kinds
        why = str(error) if isinstance(error, EngineError | RuntimeError) else f"{type(error).__name__}: {error}"
    else:
        share = f"{100 * parity.occupied_agreement:.3f} % of {parity.occupied} occupied cells as in eager PyTorch"
        if parity.passes(precision):
            engine = FallbackEngine(graph, eager, {})
            engine.name, engine.precision, engine.device = graph.name, graph.precision, graph.device
            engine.reason = f"auto: {share} on a made-up street; frames that do not fit run eagerly"
            return engine
        why = f"only {share} on a made-up street" if parity.frames else "no made-up street fits the bundle's capacities"
    on_progress(f"not torch_graph: {why}")
    eager.reason = f"auto: runs on {torch.cuda.get_device_name()}; not torch_graph: {why}"
    return eager


def check_parity(engine: Engine, reference: Engine, spec: BundleSpec) -> Parity:
    """An engine's labels against the reference's on the largest made-up street that fits its capacities."""
    free = load_taxonomy(spec.taxonomy).free
    points = POINTS
    while points >= LEAST_POINTS:
        parity = compare(engine, reference, [synthetic(spec, points)], free)
        if not parity.overflowed:
            return parity
        points //= 2
    return Parity()
