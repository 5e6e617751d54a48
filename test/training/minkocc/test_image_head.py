# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The loss on the images' pixels: where the labels come from, that they follow their images, and that it trains and is not kept."""

import csv

import numpy as np
import pytest
import torch
import yaml
from occle_train.configs import find_config
from occle_train.data.augment import AugmentConfig, augment
from occle_train.data.samples import Samples, View
from occle_train.data.views import follow_image
from occle_train.loop.checkpoints import read_checkpoint
from occle_train.loop.run_key import run_key
from occle_train.loop.steps import TrainingHooks
from occle_train.losses.minkocc import soft_cross_entropy
from occle_train.minkocc.batches import TrainingSet
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.minkocc.image_head import ImageHead, label_size
from occle_train.minkocc.pixel_labels import PixelLabels
from occle_train.process_group import ProcessGroup
from rooms import BUILDING, CAMERA, GRID, NETWORK, ROAD, Rooms, label_folder, spec

from occle_core.frame import Frame

SIZE = label_size(NETWORK.image)
CONFIG = FitConfig.model_validate(
    yaml.safe_load(find_config("minkocc_bundle").read_text()) | {"steps": 3, "warmup_steps": 0, "batch_size": 2}
)


def labelled_rooms(folder):
    rooms = [Rooms("a"), Rooms("b")]
    samples = Samples(rooms, GRID, NETWORK)
    pixels = PixelLabels(label_folder(folder, rooms))
    assert pixels.any(rooms) and not PixelLabels(None).any(rooms)
    samples.read_pixels(pixels, SIZE, pixels.source)
    return samples


def test_a_batch_holds_the_labels_of_its_images(tmp_path):
    samples = labelled_rooms(tmp_path)
    plan = CONFIG.model_copy(update={"augment": AugmentConfig(camera_dropout_prob=0.5)}).sampling_plan
    batches = TrainingSet(samples, GRID, NETWORK, plan, 0, ProcessGroup())
    masked = 0
    for step in range(4):
        batch = batches[step, [0, 3]]
        labels, confidence = batch.pixels
        assert labels.shape == confidence.shape == (2, 1, *SIZE[::-1]) == (2, 1, 8, 16)
        for frame in range(2):
            if (batch.inputs.images[frame] == 0).all():
                masked += 1
                assert (labels[frame] == 255).all()
            else:
                assert (labels[frame, 0, 1:4] == BUILDING).all() and (labels[frame, 0, 5:] == ROAD).all()
                assert confidence[frame, 0][labels[frame, 0] != 255] == pytest.approx(200 / 255)
    assert 0 < masked < 8


def test_labels_move_as_their_image_does():
    rng = np.random.default_rng(3)
    # Large blocks of four brightnesses, so that resizing to a quarter keeps nearly all pixels.
    classes = np.kron(rng.integers(1, 4, (4, 8)), np.ones((8, 8))).astype(np.uint8)
    image = np.repeat(classes[..., None] * 60, 3, 2)
    frame = Frame(0, np.zeros((1, 4), np.float32), [image], [CAMERA])
    nothing = {name: 0 for name in AugmentConfig.model_fields if name.endswith(("_prob", "jitter"))}
    moving = AugmentConfig(**nothing, max_point_dropout=0, max_image_shift=0.2, max_image_scale=0.2, max_image_rotation=10)
    moved, _ = augment(frame, np.zeros(GRID.shape, np.uint8), GRID, moving, rng)
    labels = View(CAMERA, classes, np.ones(classes.shape, np.float32))
    found, sure = follow_image(labels, moved.images[0], moved.cameras[0])
    from_image = np.round(moved.images[0][..., 0] / 60)
    known = found != 255
    assert 0.5 < known.mean() < 1 and (sure[~known] == 0).all()
    assert (found[known] == from_image[known]).mean() > 0.85  # the image is interpolated between blocks
    assert (classes == from_image).mean() < 0.8  # where they were, the labels no longer fit
    assert follow_image(labels, image, CAMERA)[0] is classes
    assert (follow_image(labels, None, CAMERA)[0] == 255).all()


def test_the_loss_is_a_cross_entropy_on_two_levels():
    torch.manual_seed(0)
    head = ImageHead(NETWORK.image, 20)
    pyramid = [torch.randn(2, 8, 8, 16), torch.randn(2, 8, 4, 8)]
    labels = torch.randint(0, 20, (2, 1, 8, 16)).to(torch.uint8)
    labels[0, 0, :3] = 255
    confidence = torch.rand(2, 1, 8, 16)
    expected = torch.zeros(())
    for level, one in enumerate(head.heads):
        every = 2**level
        expected = expected + soft_cross_entropy(
            one(pyramid[level]), labels[:, 0, ::every, ::every], confidence[:, 0, ::every, ::every]
        )
    torch.testing.assert_close(head.loss(pyramid, labels, confidence), expected)


def test_it_trains_the_image_branch_and_is_resumed_and_not_kept(tmp_path):
    samples = labelled_rooms(tmp_path / "labels")
    network = fit(spec(), samples, CONFIG, tmp_path / "run")
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        parts = [row[name] for name in ("semantic", "occupancy", "lovasz", "image")]
        assert min(parts) > 0 and sum(parts) == pytest.approx(row["total"], rel=1e-4)
    assert rows[-1]["image"] < rows[0]["image"]
    assert set(network.state_dict()) == set(spec().build().state_dict())
    head = read_checkpoint(tmp_path / "run" / "checkpoint.pt")["image_head"]
    assert len(head) == 4 and any(value.abs().sum() > 0 for value in head.values())
    again = fit(spec(), samples, CONFIG, tmp_path / "again", hooks=TrainingHooks(should_stop=lambda: True))
    again = fit(spec(), samples, CONFIG, tmp_path / "again")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())
    assert "pixels: labels by" in run_key(spec(), samples, CONFIG, None)["labels"]


def test_frames_without_pixel_labels_train_without_this_loss(tmp_path):
    fit(spec(), Samples([Rooms("a")], GRID, NETWORK), CONFIG.model_copy(update={"steps": 1}), tmp_path)
    assert "image" not in (tmp_path / "log.csv").read_text().split("\n")[0].split(",")
