# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Predict one frame of a data set, and save a page of pictures.

    python examples/predict_frame.py out/streets voxels.png
    python examples/predict_frame.py dataset/sequences/08 voxels.png --bundle config/bundles/kitti --frame 5

No ROS is needed. Any data set that `occle_core.datasets` reads will do; `occle-train simulate out/streets` makes one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from occle_core.datasets import open_dataset
from occle_core.pictures import legend, overlay, panel, perspective, top_view
from occle_core.predictor import Predictor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path, help="folder of a sequence or of a data set")
parser.add_argument("picture", type=Path, help="file to write")
parser.add_argument("--bundle", type=Path, default=Path("config/bundles/kitti"), help="folder of the network")
parser.add_argument("--scene", help="which sequence, where the folder holds several")
parser.add_argument("--frame", type=int, default=0, help="which frame of the sequence")
parser.add_argument("--engine", default="torch", help="what runs the network; auto: the fastest here")
options = parser.parse_args()

# A dataset is a list of frames: points, images and calibration of one instant.
dataset = open_dataset(options.data, scene=options.scene)
frame = dataset.frame(options.frame)

# A predictor is a network with its weights, its voxel grid and its classes. Load it once and use it for every frame.
predictor = Predictor.load(options.bundle, options.engine)
occupancy = predictor.predict(frame)

# What came out: a class id per voxel. The free class and 255 (unknown) are not occupied.
labels, grid, classes = occupancy.labels, occupancy.grid, occupancy.taxonomy
centers, ids, confidence = occupancy.voxels()
print(f"{len(centers)} of {labels.size} voxels of {grid.resolution} m are occupied")
for number, name in enumerate(classes.names):
    if count := int((ids == number).sum()):
        print(f"{count:8d}  {name}, mean confidence {confidence[ids == number].mean():.2f}")

# Pictures are plain (H, W, 3) RGB arrays, drawn without a display.
seen = [
    (name, overlay(image, camera, labels, grid, classes, frame.T_grid_lidar))
    for name, image, camera in zip(dataset.camera_names, frame.images, frame.cameras)
    if image is not None
]
views = [("perspective", perspective(labels, grid, classes)), ("from above", top_view(labels, grid, classes))]
page = panel([seen[:3], views] if seen else [views], footer=legend([labels], classes, 1600))
if not cv2.imwrite(str(options.picture), cv2.cvtColor(page, cv2.COLOR_RGB2BGR)):
    raise SystemExit(f"{options.picture} cannot be written")
print(f"wrote {options.picture}")
