# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled kernels for CPUs, built on the machine that runs them: the fastest way through MinkOcc without a GPU."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from occle_core.bundle import BundleSpec
from occle_core.engines.base import EngineResult
from occle_core.errors import EngineError
from occle_core.native.library import Library, load
from occle_core.native.workspace import Workspace
from occle_core.networks.minkocc.inputs import MinkOccInputs
from occle_core.networks.minkocc.native_images import NativeImages, Stacks
from occle_core.networks.minkocc.native_network import NativeMinkOcc
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.taxonomy import load as load_taxonomy

NAME = "native"


class NativeEngine:
    """MinkOcc on compiled kernels.

    Args:
        library: the kernels.
        spec: the bundle's spec.
        network: its network.
        threads: CPU threads of one frame.
    """

    name, precision, reason = NAME, "fp32", ""

    def __init__(self, library: Library, spec: BundleSpec, network: MinkOcc, threads: int) -> None:
        self.device = f"CPU ({library.instructions})"
        self._library, self._threads = library, threads
        self._images = NativeImages(library, network)
        self._network = NativeMinkOcc(library, network, load_taxonomy(spec.taxonomy).free)
        self._own = threading.local()

    def run(self, inputs: NetworkInputs) -> EngineResult:
        """Predict one frame; timings per stage of the network."""
        assert isinstance(inputs, MinkOccInputs)
        timings: dict[str, float] = {}
        last = time.perf_counter()

        def stage_done(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            timings[stage] = (now - last) * 1e3
            last = now

        if not hasattr(self._own, "space"):
            self._own.space = Workspace(self._library, self._threads)
            self._own.stacks = Stacks(self._own.space)
        pyramid = self._images(self._own.stacks, inputs.images[0].numpy())
        stage_done("image")
        sparse = self._network(self._own.space, inputs, pyramid, stage_done)
        stage_done("labels")
        return EngineResult(sparse, timings=timings)


def native_engine(
    spec: BundleSpec,
    network: Network,
    threads: int | None,
    max_concurrent: int,
    progress: Callable[[str], None],
    instructions: str | None = None,
) -> NativeEngine:
    """The engine on this machine's CPU.

    Args:
        spec: the bundle's spec.
        network: its network.
        threads: CPU threads of all frames together; None takes all there are.
        max_concurrent: frames at the same time, among which the threads are divided.
        progress: called with what takes long, and with what is not there.
        instructions: an instruction set, see `occle_core.native.library.load`.

    Raises:
        EngineError: the network is another one, or no library is there and none can be compiled.
    """
    if not isinstance(network, MinkOcc):
        raise EngineError(f"engine {NAME} runs networks of kind minkocc, not {spec.network.kind}; use engine: openvino or torch")
    each = max(1, (threads or os.cpu_count() or 1) // max_concurrent)
    return NativeEngine(load(progress, instructions), spec, network, each)
