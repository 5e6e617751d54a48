"""From a Frame to an Occupancy: the one way in which the node, the offline run and the evaluator use a network."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from occle_core import taxonomy
from occle_core.bundle import BundleSpec, load_bundle
from occle_core.frame import Frame
from occle_core.grid import VoxelGrid
from occle_core.inputs import prepare
from occle_core.nn.minkocc import MinkOcc, label_grid
from occle_core.occupancy import Occupancy


class Predictor:
    """A network with its bundle's grid and classes.

    Args:
        spec: what the bundle says.
        network: the network, in evaluation mode.
        bundle_id: name and content hash of the bundle.
    """

    def __init__(self, spec: BundleSpec, network: MinkOcc, bundle_id: str) -> None:
        self.spec = spec
        self.network = network
        self.bundle_id = bundle_id
        self.grid: VoxelGrid = spec.voxel_grid
        self.taxonomy = taxonomy.load(spec.taxonomy)

    @classmethod
    def load(cls, bundle_dir: Path | str, threads: int | None = None) -> Predictor:
        """From a bundle's folder.

        Args:
            bundle_dir: the folder.
            threads: CPU threads that torch may use in this process; None leaves torch's own choice.

        Raises:
            BundleError: the bundle cannot be used.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(*load_bundle(bundle_dir))

    @property
    def cameras(self) -> int:
        """How many images the network was trained for; a frame may bring fewer."""
        return self.spec.network.image.cameras

    def predict(self, frame: Frame, frame_id: str = "") -> Occupancy:
        """Occupancy of one frame, from its sensors alone.

        Args:
            frame: points, images, calibration.
            frame_id: name of the grid frame, passed on.

        Raises:
            FrameError: the frame is malformed or nothing of it lies inside the grid.
        """
        timings: dict[str, float] = {}
        last = time.perf_counter()

        def stage_done(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            timings[stage] = (now - last) * 1e3
            last = now

        with torch.inference_mode():
            inputs = prepare(frame, self.grid, self.spec.network)
            stage_done("prepare")
            prediction = self.network(inputs, stage_done=stage_done)
            labels, confidence = label_grid(prediction.classes, self.taxonomy.free)
            stage_done("labels")
        return Occupancy(labels[0].numpy(), confidence[0].numpy(), self.grid, self.taxonomy, frame.stamp, frame_id, timings)
