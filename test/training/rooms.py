# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A data set in memory for training tests: flat ground with boxes on it, scans that miss half of the voxels, one camera ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing

from occle_core import taxonomy
from occle_core.bundle import spec_for
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.minkocc.config import ImageConfig, MinkOccConfig, PointConfig, UNetConfig
from occle_core.occupancy import Occupancy
from occle_core.predictor import Predictor

GRID = VoxelGrid((0, -6.4, -2.0), (32, 32, 8), 0.4)
NETWORK = MinkOccConfig(
    image=ImageConfig(num_cameras=1, width=64, height=32, base_width=8, num_stages=2, channels=8),
    points=PointConfig(max_points=3, max_views=1, channels=8),
    unet=UNetConfig(encoder_channels=(8, 8, 8, 8), decoder_channels=(8, 8, 8)),
)
RECIPE = MinkOccRecipeConfig(
    alpha=0.5,
    warmup_fraction=0.5,
    past_scans=1,
    moving_points="keep",
    num_views=1,
    view_width=32,
    view_height=16,
    max_depth=20,
    shader_channels=8,
)
CLASSES = taxonomy.load("semantickitti")
ROAD, BUILDING = 9, 13
AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
CAMERA = Camera(np.array([[30.0, 0, 31.5], [0, 30, 15.5], [0, 0, 1]]), AXES, 64, 32)


def spec():
    return spec_for(NETWORK, GRID, "semantickitti", "rooms")


class Rooms:
    """A scene of `count` frames; `relabel` changes the labels that `truth` gives, and nothing else."""

    kind, taxonomy, camera_names, T_grid_lidar = "rooms", CLASSES, ("cam",), np.eye(4)
    lidar_frame = grid_frame = "lidar"

    def __init__(self, name, count=3, relabel=lambda labels: labels):
        self.name, self.count, self.relabel = name, count, relabel
        self.stamps = self.numbers = list(range(count))
        self.read = 0  # how often the truth was opened

    def __len__(self):
        return self.count

    def has_truth(self, i):
        return True

    def masks(self, i):
        return {}

    def pose(self, i):
        return np.eye(4)

    def image_file(self, i, camera):
        return Path(f"{i:03d}.png")

    def files(self, i):
        return [Path(__file__)]  # a file that is there

    def truth(self, i, grid):
        self.read += 1
        return self.relabel(self.world(i))

    def world(self, i):
        rng = np.random.default_rng([ord(self.name[-1]), i])
        labels = np.zeros(GRID.shape, np.uint8)
        labels[:, :, 1] = ROAD
        for x, y in rng.integers(10, 24, (3, 2)):
            labels[x - 3 : x, y : y + 4, 2:6] = BUILDING
        return labels

    def points(self, i):
        cells = np.argwhere(self.world(i))
        cells = cells[np.random.default_rng(i).random(len(cells)) < 0.5]
        return np.concatenate([GRID.centers(cells), np.full((len(cells), 1), 0.3)], 1).astype(np.float32)

    def frame(self, i):
        image = np.random.default_rng(i).integers(0, 255, (32, 64, 3), dtype=np.uint8)
        return Frame(i, self.points(i), [image], [CAMERA], self.T_grid_lidar)


def label_folder(root, rooms):
    """2D labels: road below the horizon, building above."""

    def labeller(dataset, i, camera):
        labels = np.full((32, 64), BUILDING, np.uint8)
        labels[18:] = ROAD
        labels[:4] = 255
        return labels, np.where(labels == 255, 0, 200).astype(np.uint8)

    write_missing(root, rooms, labeller, CLASSES, {"by": "hand"})
    return LabelFolder(root, CLASSES)


class Oracle(Predictor):
    """A predictor without a network: `answer` gives the labels of a frame."""

    def __init__(self, answer, grid=GRID, classes=CLASSES):
        super().__init__(spec_for(NETWORK, grid, classes.name, "oracle"), None, "oracle")
        self.answer = answer

    def predict(self, frame, frame_id=""):
        labels = self.answer(frame)
        confidence = np.where(labels != self.taxonomy.free, np.float16(0.5), np.float16(0))
        return replace(Occupancy.of_volumes(labels, confidence, self.grid, self.taxonomy), timings={"network": 1.0})
