# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""From a Frame to an Occupancy: the one way in which the node, the offline run and the evaluator use a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import BundleError, BundleSpec, find_bundle, load_bundle
from occle_core.console import ProgressCallback
from occle_core.datasets.base import Dataset, HasSweeps
from occle_core.datasets.files import warn_once
from occle_core.engines.base import Engine
from occle_core.engines.loading import load_engine
from occle_core.frame import Frame, FrameError
from occle_core.geometry.grid import VoxelGrid
from occle_core.history import FrameHistory, history_begin
from occle_core.networks.registry import prepare
from occle_core.occupancy import Occupancy
from occle_core.sensors.clouds import MAX_INTENSITY


def _unchanged(frame: Frame) -> Frame:
    return frame


class Predictor:
    """An engine with its bundle's grid and classes, and where the network looks at several frames, those that came before.

    Args:
        spec: what the bundle says.
        engine: what runs the network.
        bundle_id: name and content hash of the bundle.
        max_concurrent: threads that may call `predict` at the same time.
        classes: class list to answer in, which has names of the bundle's; None: the bundle's.

    Raises:
        BundleError: the class list has no names of the bundle's.
    """

    def __init__(
        self, spec: BundleSpec, engine: Engine, bundle_id: str, max_concurrent: int = 1, classes: taxonomy.Taxonomy | None = None
    ) -> None:
        self.spec = spec
        self.engine = engine
        self.bundle_id = bundle_id
        self.max_concurrent = max_concurrent
        self.grid: VoxelGrid = spec.voxel_grid
        self._own_taxonomy = taxonomy.load(spec.taxonomy)
        self.taxonomy = classes or self._own_taxonomy
        self._table = None if self.taxonomy.name == self._own_taxonomy.name else self._table_from_bundle()
        self._history = FrameHistory(spec.network.num_frames, spec.network.frame_stride)
        self._recalled: tuple[Dataset, Callable[[Frame], Frame], int] | None = None

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        engine: str = "torch",
        precision: str = "fp32",
        threads: int | None = None,
        on_progress: ProgressCallback = lambda text: None,
        max_concurrent: int = 1,
        classes: taxonomy.Taxonomy | None = None,
    ) -> Predictor:
        """From a bundle.

        Args:
            bundle: its folder, or the name of a shipped one: "kitti", "nuscenes" or "kitti_occle".
            engine: what runs the network, one of `occle_core.engines.loading.ENGINE_NAMES`.
            precision: one of `occle_core.engines.loading.PRECISIONS`.
            threads: CPU threads of the engine; None leaves its own choice.
            on_progress: called with a line before what takes long, such as the first build of an engine.
            max_concurrent: threads that will call `predict` at the same time. A network that looks back takes one frame after
                the other.
            classes: class list to answer in, which has names of the bundle's; None: the bundle's.

        Raises:
            BundleError: the bundle cannot be used.
            EngineError: the engine cannot work here.
        """
        folder = find_bundle(bundle)
        spec, network, bundle_id = load_bundle(folder)
        max_concurrent = max_concurrent if spec.network.num_frames == 1 else 1
        loaded = load_engine(spec, network, folder, engine, precision, threads, on_progress, max_concurrent)
        return cls(spec, loaded, bundle_id, max_concurrent, classes)

    @property
    def num_cameras(self) -> int:
        """Number of images that the network was trained for; a frame may bring fewer."""
        return self.spec.network.num_cameras

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) that the network resizes images to."""
        return self.spec.network.image_size

    @property
    def num_frames(self) -> int:
        """Number of frames that the network looks at; of more than one, each frame needs its T_world_lidar."""
        return self.spec.network.num_frames

    def observe(self, frame: Frame) -> None:
        """Add a frame to the history without running the network on it.

        Raises:
            FrameError: as `predict`, which would not remember such a frame either.
        """
        if self.num_frames > 1:
            with torch.inference_mode():
                prepare(self._history.with_past(frame)[0], self.grid, self.spec.network)
            self._keep(frame)

    def reads(self, dataset: Dataset, frames: Iterable[int]) -> list[int]:
        """Numbers of the frames of a recording that are read to predict some of its frames: these and their history, ascending."""
        begins = {i: history_begin(dataset, i, self.num_frames, self.spec.network.frame_stride) for i in frames}
        return sorted({k for i, begin in begins.items() for k in range(begin, i + 1)})

    def recall(self, dataset: Dataset, i: int, change: Callable[[Frame], Frame] = _unchanged) -> None:
        """Give the history what a live node would remember at frame `i` of a recording, which `predict` has to take next.

        After an earlier frame of the same recording, changed alike, only the frames between are read. Networks that read sweeps get
        the scans between the frames where the data set has some.

        Args:
            dataset: the recording.
            i: number of the frame.
            change: what is done to each frame before it is remembered.

        Raises:
            DatasetError: a frame that is read is missing or damaged.
        """
        if self.num_frames == 1:
            return
        network = self.spec.network
        if network.reads_sweeps and isinstance(dataset, HasSweeps):
            self.forget()
            self._observe_usable(change(sweep) for sweep in reversed(dataset.sweeps(i, self.num_frames - 1)))
            return
        known, before, last = self._recalled or (None, None, -1)
        first = history_begin(dataset, i, self.num_frames, network.frame_stride)
        if known is dataset and before is change and first <= last + 1 <= i:
            self._observe_usable(change(dataset.frame(k)) for k in range(last + 1, i))
        else:
            self.forget()
            if not self._observe_usable(change(dataset.frame(k)) for k in range(first, i)):
                self.forget()  # frames before `first` take the place of those that cannot be used
                self._observe_usable(change(dataset.frame(k)) for k in range(i))
        self._recalled = dataset, change, i

    def predict_recorded(self, dataset: Dataset, i: int) -> Occupancy:
        """Occupancy of frame `i` of a recording, with the history that it has there.

        Raises:
            DatasetError, FrameError: as `recall` and `predict`.
        """
        self.recall(dataset, i)
        return self.predict(dataset.frame(i))

    def forget(self) -> None:
        """Clear the history: another drive begins."""
        self._history.clear()
        self._recalled = None

    def predict(self, frame: Frame, frame_id: str = "") -> Occupancy:
        """Occupancy of one frame, from its sensors alone, and from those of the frames before it where the network looks back.

        Args:
            frame: points, images, calibration.
            frame_id: name of the grid frame, passed on.

        Raises:
            FrameError: the frame is malformed, nothing of it lies inside the grid, or the network needs an image and it has none.
        """
        started = time.perf_counter()
        if self.spec.network.needs_images and all(image is None for image in frame.images):
            raise FrameError(
                f"the frame has no image, and a network of kind {self.spec.network.kind} cannot do without: bring a camera "
                "back, or use a bundle of kind minkocc"
            )
        frames, short_history = self._history.with_past(frame)
        with torch.inference_mode():
            inputs = prepare(frames, self.grid, self.spec.network)
        if frame.points[:, 3].max() > MAX_INTENSITY:
            warn_once("intensities reach far above 1 and make labels worse: networks are trained with 0..1; scale 0..255 by 1/255")
        # Only now: a frame that cannot be used leaves no trace.
        self._keep(frame)
        timings = {"prepare": (time.perf_counter() - started) * 1e3}
        found = self.engine.run(inputs)
        timings |= found.timings
        sparse, occupied_scores, free_score = found.sparse, None, 0.0
        if self._table is not None:
            sparse = sparse.renamed(self._table, self.taxonomy.free)
        if self.spec.calibration is not None:
            scores, occupied_scores = self.spec.calibration.apply(sparse.scores)
            sparse, free_score = replace(sparse, scores=scores), self.spec.calibration.free
        return Occupancy(
            sparse,
            self.grid,
            self.taxonomy,
            frame.stamp,
            frame_id,
            timings,
            found.overflow,
            short_history,
            occupied_scores,
            free_score,
        )

    def _observe_usable(self, frames: Iterable[Frame]) -> bool:
        """Observe the frames that can be used: what cannot be predicted is not remembered either. True if all can."""
        usable = True
        for frame in frames:
            try:
                self.observe(frame)
            except FrameError:
                usable = False
        return usable

    def _keep(self, frame: Frame) -> None:
        """Remember a frame; of sweeps without the images, which would take much memory."""
        self._history.keep(replace(frame, images=(), cameras=()) if self.spec.network.reads_sweeps else frame)

    def _table_from_bundle(self) -> NDArray[np.uint8]:
        try:
            return self.taxonomy.table_from(self._own_taxonomy)
        except ValueError as error:
            raise BundleError(f"bundle {self.bundle_id} predicts the classes of {self._own_taxonomy.name}: {error}") from error
