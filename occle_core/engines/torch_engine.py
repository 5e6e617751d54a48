# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""PyTorch itself: the dynamic form, which pays only for the voxels that are there."""

from __future__ import annotations

import time

import torch

from occle_core.bundle import BundleSpec
from occle_core.engines.base import EngineResult
from occle_core.engines.cuda.transfer import download_grid, upload
from occle_core.errors import EngineError
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.occupancy import SparseLabels
from occle_core.taxonomy import load as load_taxonomy


class TorchEngine:
    """Eager PyTorch.

    Args:
        spec: the bundle's spec.
        network: its network; a copy with folded batch norms is run.
        device: torch's name of the device.

    Raises:
        EngineError: there is no such device.
    """

    name, precision, reason = "torch", "fp32", ""

    def __init__(self, spec: BundleSpec, network: Network, device: str = "cpu") -> None:
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise EngineError("no CUDA device is usable by this PyTorch; use device: cpu, or install a CUDA build and a driver")
        self.device = device
        self.network = fold_batch_norms(network).to(device)
        self.free = load_taxonomy(spec.taxonomy).free

    def run(self, inputs: NetworkInputs) -> EngineResult:
        """Predict one frame; timings per stage of the network."""
        timings: dict[str, float] = {}
        last = time.perf_counter()

        def stage_done(stage: str) -> None:
            nonlocal last
            if self.device != "cpu":
                torch.cuda.synchronize(self.device)
            now = time.perf_counter()
            timings[stage] = (now - last) * 1e3
            last = now

        with torch.inference_mode():
            moved = inputs if self.device == "cpu" else upload(inputs, self.device)
            labels, confidence = self.network.label_grid(moved, self.free, stage_done)
            if self.device == "cpu":
                sparse = SparseLabels.of_volumes(labels[0].numpy(), confidence[0].numpy(), self.free)
            else:
                sparse, _ = download_grid(labels[0], confidence[0], self.free)
        stage_done("labels")
        return EngineResult(sparse, timings=timings)
