# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Inputs of a demo or an offline run: data set sequence, bundle, and replay rate."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from occle_core.datasets import list_scenes, open_dataset
from occle_core.predictor import Predictor
from occle_ros.bags.reader import BagReader
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.presets import PRESETS, preset_for
from occle_ros.config.share_paths import resolve_bundle
from occle_ros.pipeline.pipeline import Pipeline
from occle_ros.system.child_process import ProcessError

MAX_HZ, LOAD_FACTOR = 10.0, 0.56
MEASURED_FRAMES, LOOKED_AT_FRAMES = 24, 240


@dataclass(frozen=True)
class DatasetSequence:
    """Arguments of `open_dataset` for one sequence."""

    path: Path
    kind: str | None
    scene: str | None


def bundle_for(bag: Path | None, dataset: Path | None, kind: str | None = None, scene: str | None = None,
               config: NodeConfig | None = None) -> Path:  # fmt: skip
    """Bundle of the preset for the cameras of a bag, as its configuration or else its topics name them, or of a data set.

    Raises:
        ConfigError: there is none for these cameras. BagError, DatasetError: the input cannot be read.
    """
    if bag is not None:
        names: Sequence[str] = BagReader(bag, config).config.camera_names
    else:
        assert dataset is not None
        names = open_dataset(dataset, kind, scene).camera_names
    return resolve_bundle(PRESETS[preset_for(names)].bundle, "the shipped bundle")


def simulate_drive(out: Path, frames: int, seconds: float) -> DatasetSequence:
    """Simulate a street drive of the KITTI rig in a child process; its progress is shown on the terminal.

    Raises:
        ProcessError: it failed, or took longer than `seconds`.
    """
    # A process, not an import: occle_ros and occle_train do not import each other.
    simulator = [sys.executable, "-m", "occle_train.cli", "simulate", str(out)]
    options = ["--rig", "kitti", "--drives", "1", "--frames", str(frames), "--seed", "7"]
    try:
        code = subprocess.run([*simulator, *options], timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"the simulator took longer than {seconds:.0f} s for {frames} frames; try fewer: --frames 30") from error
    if code:
        raise ProcessError(f"the simulator ended with exit code {code}; see its message above")
    return DatasetSequence(out, "streets", None)


def pick_sequence(path: Path, scene: str | None) -> DatasetSequence:
    """Sequence of a data set by name, or the first one.

    Raises:
        DatasetError: not a data set, or no such scene.
    """
    return DatasetSequence(path, None, scene or list_scenes(path)[0])


def sustained_rate(bag: Path, bundle: Path, on_progress: Callable[[str], None]) -> tuple[float, float]:
    """Sustained rate, min(10, LOAD_FACTOR / time per frame) Hz, and the time per frame in seconds.

    The time is measured over frames from the beginning of the bag, with the node's concurrency; LOAD_FACTOR leaves CPU time for
    the player, the recorder and the transport. The engine is the node's default; `on_progress` is called during its first build.
    """
    reader = BagReader(bag)
    predictor = Predictor.load(
        bundle, reader.config.engine, on_progress=on_progress, max_concurrent=reader.config.max_concurrent_frames
    )
    max_concurrent = predictor.max_concurrent
    pipeline = Pipeline(predictor, reader.config, reader.calibration, reader.poses)
    looked_at = min(len(reader), LOOKED_AT_FRAMES)
    step = -(-looked_at // MEASURED_FRAMES)
    frames = [synced for number, synced in zip(range(looked_at), reader.synced()) if number % step == 0]
    with ThreadPoolExecutor(max_concurrent) as threads:
        list(threads.map(pipeline.process, frames[:max_concurrent]))
        per_frame = math.inf
        for _ in range(3):  # the best of three, against load by other processes
            began = time.perf_counter()
            list(threads.map(pipeline.process, frames))
            per_frame = min(per_frame, (time.perf_counter() - began) / len(frames))
    return min(MAX_HZ, LOAD_FACTOR / per_frame), per_frame


def recorded_rate(stamps: Sequence[int]) -> float:
    """Scan rate of a recording, Hz, from the median difference of its stamps (ns); 10 for a single scan."""
    return 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else 10.0
