# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What a CPU does for a frame of six cameras beside a GPU: `python -m benchmark.sensors.six_cameras`, whole and halved JPEGs.

From the JPEGs of real nuScenes keyframes to the arrays of the static form, CPU time of one thread. The copy to staging memory is
one within the host here; for a GPU that memory is pinned.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

from benchmark.machine import machine, real_data
from occle_core.bundle import find_bundle, load_bundle
from occle_core.datasets import list_scenes, open_dataset
from occle_core.engines.cuda.transfer import Staging
from occle_core.engines.static.program import capacities_of, pad
from occle_core.native import library
from occle_core.networks.minkocc.inputs import prepare_images
from occle_core.networks.registry import prepare
from occle_core.sensors.image_files import decode_image

STAGES = ("decode and check", "prepare", "pad", "copy to staging")


def main() -> int:
    """Measure both in turns and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.sensors.six_cameras", description=__doc__)
    parser.add_argument("--data", type=Path, default=real_data() / "nuscenes", help="nuScenes; default: OCCLE_DATA's")
    parser.add_argument("--turns", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    library.load(print)
    spec, *_ = load_bundle(find_bundle("nuscenes"))
    datasets = [open_dataset(given.data, scene=scene) for scene in list_scenes(given.data)]
    taken: dict[tuple[str, bool], list[float]] = {}
    with torch.inference_mode():
        for turn in range(given.turns + 1):
            for dataset in datasets:
                for halved in (False, True):
                    times = _stages(spec, dataset, halved)
                    if turn:  # the first warms up
                        for stage, milliseconds in times.items():
                            taken.setdefault((stage, halved), []).append(milliseconds)
    print(f"{machine(1)}; medians of {given.turns * len(datasets)} frames\n")
    print("| CPU ms a frame | whole | at half size |\n|---|---:|---:|")
    for stage in dict.fromkeys(stage for stage, _ in taken):
        print(f"| {stage} | {np.median(taken[stage, False]):.1f} | {np.median(taken[stage, True]):.1f} |")
    return 0


def _stages(spec: Any, dataset: Any, halved: bool) -> dict[str, float]:
    """Milliseconds of each stage of a data set's first frame."""
    frame, times = dataset.frame(0), dict[str, float]()
    files = [dataset.image_file(0, name).read_bytes() for name in dataset.camera_names]

    def timed(stage: str, run: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = run()
        times[stage] = (time.thread_time() - began) * 1e3
        return result

    images = timed("decode and check", lambda: [decode_image(file, halved) for file in files])
    cameras = [camera.resized(image.shape[1], image.shape[0]) for camera, image in zip(frame.cameras, images)]
    frame = replace(frame, images=images, cameras=cameras)
    inputs = timed("prepare", lambda: prepare([frame], spec.voxel_grid, spec.network))
    arrays = timed("pad", lambda: pad(spec, inputs, capacities_of(spec)))
    staging = Staging([torch.from_numpy(array) for array in arrays.values()], "cpu")

    def copy() -> None:
        for held, array in zip(staging.host, arrays.values()):
            held.copy_(torch.from_numpy(array))

    timed("copy to staging", copy)
    times["all of these"] = sum(times[stage] for stage in STAGES)
    timed("of prepare: resizing, native kernels", lambda: prepare_images(images, spec.network))
    with patch.dict(os.environ, {library.VARIABLE: "off"}):
        timed("the same, OpenCV", lambda: prepare_images(images, spec.network))
    return times


if __name__ == "__main__":
    sys.exit(main())
