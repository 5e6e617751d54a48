# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames to measure a GPU on: simulated streets where the simulator is installed, made-up ones elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset, list_scenes, open_dataset
from occle_core.engines.choice.timing import synthetic_frame
from occle_core.frame import Frame

DRIVES, PER_DRIVE = 4, 5
"""Simulated in as many processes; as many frames in a row as the largest network looks at."""
TINY_POINTS = 2000


class FrameSource:
    """Frames by rig, made once.

    Args:
        folder: where simulated drives are kept.
        tiny: few points and small images.
        made_up: never simulate.
    """

    def __init__(self, folder: Path, tiny: bool, made_up: bool) -> None:
        self._folder, self._tiny, self._made_up = folder, tiny, made_up
        self._datasets: dict[str, list[Dataset]] = {}
        self._notes: dict[str, str] = {}

    def describe(self) -> str:
        """What the frames are."""
        return "; ".join(f"{rig}: {note}" for rig, note in self._notes.items()) or "none"

    def datasets(self, rig: str) -> list[Dataset]:
        """The simulated drives of a rig; none where frames are made up."""
        if rig not in self._datasets:
            self._datasets[rig] = [] if self._made_up else self._simulated(rig)
            self._notes.setdefault(rig, "simulated streets" if self._datasets[rig] else "made up")
        return self._datasets[rig]

    def samples(self, spec: BundleSpec, count: int) -> list[list[Frame]]:
        """Samples of a network: the present frame and as many before it as the network looks at, newest first."""
        rig = "nuscenes" if spec.taxonomy == "occ3d_nuscenes" else "kitti"
        length = spec.network.num_frames
        found = []
        for number in range(count):
            datasets = self.datasets(rig)
            if not datasets:
                frame = synthetic_frame(spec, TINY_POINTS if self._tiny else 60_000, number)
                found.append([frame] * length)
                continue
            dataset = datasets[number % len(datasets)]
            last = len(dataset) - 1 - number // len(datasets) % len(dataset)
            found.append([dataset.frame(max(0, last - past)) for past in range(length)])
        return found

    def _simulated(self, rig: str) -> list[Dataset]:
        folder = self._folder / f"drives_{rig}"
        try:
            if not folder.is_dir():
                from occle_train.streets import simulate

                print(f"simulating {DRIVES} drives of the {rig} rig into {folder}", flush=True)
                simulate(folder, rig, DRIVES, PER_DRIVE, seed=7, workers=min(DRIVES, os.cpu_count() or 1))
            return [open_dataset(folder, scene=name) for name in list_scenes(folder)]
        except Exception as error:  # of a package that is missing, in whatever way it says so
            self._notes[rig] = f"made up, because the simulator does not run: {type(error).__name__}: {error}"
            print(self._notes[rig], flush=True)
            return []
