# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Votes over frames, thresholds, targets and the occupancy bias: against loops and by-hand cases."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_scans import Scans, shift
from occle_train.adaptation import teacher as teacher_module
from occle_train.adaptation.bias import choose_occupancy_bias
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.samples import AdaptSamples
from occle_train.adaptation.targets import target_of
from occle_train.adaptation.teacher import ClassVolume, Teacher, accumulated_votes
from occle_train.adaptation.thresholds import LEAST_CELLS, NEVER, class_thresholds
from occle_train.data.samples import SOLID
from occle_train.minkocc.free_bias import add_free_bias
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from rooms import CLASSES, GRID, NETWORK, Rooms, spec

from occle_core.frame import Frame
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc

COUNT = CLASSES.num_classes
ROAD, CAR = CLASSES.id("road"), CLASSES.id("car")


def talkative():
    """A network of random weights that prunes little and is sure of some classes."""
    torch.manual_seed(0)
    network = MinkOcc(NETWORK, COUNT, GRID.shape).eval()
    with torch.no_grad():
        for head in network.unet.occupancy:
            head.bias.fill_(0.1)
        network.head.weight.mul_(20)
    return network


def random_volume(rng):
    rows = rng.integers(0, 6, GRID.shape).astype(np.int32)
    probabilities = rng.random((6, COUNT)).astype(np.float32)
    probabilities[0] = probabilities[:, CLASSES.free] = 0
    probabilities /= np.maximum(probabilities.sum(1, keepdims=True), 1e-9)
    return ClassVolume(rows, probabilities)


def test_votes_are_the_mean_over_frames_at_the_same_place_of_the_world():
    rng = np.random.default_rng(0)
    turned = np.eye(4)
    turned[:2, :2] = [[0, -1], [1, 0]]
    poses = [shift(1.2), shift(2.0, 0.8) @ turned, None, shift(0.4)]
    data = Scans([[]] * 4, poses=poses)
    volumes = [random_volume(rng) for _ in range(4)]
    volumes[3] = None  # nothing of this frame lay in the grid
    cells = rng.integers(0, GRID.shape, (200, 3))
    moving = rng.random(200) < 0.3
    found = accumulated_votes(data, 0, cells, moving, spec(), volumes.__getitem__, 1, 3)
    for cell, moves, votes in zip(cells, moving, found):
        total = np.zeros(COUNT)
        for i in (0,) if moves else (0, 1):
            place = np.linalg.inv(poses[i]) @ poses[0] @ [*(GRID.centers(cell[None])[0].astype(float)), 1]
            ijk, inside = GRID.index(place[None, :3])
            if inside[0]:
                total += volumes[i].probabilities[volumes[i].row[tuple(ijk[0])]]
        assert np.allclose(votes, total / total.sum() if total.sum() else 0, atol=1e-6)


def test_a_teachers_volume_is_the_networks_softmax_without_free():
    network, rooms = talkative(), Rooms("a")
    volume = Teacher(spec(), network, rooms, 2).volume(1)
    with torch.inference_mode():
        classes = network(prepare(rooms.frame(1), GRID, NETWORK)).classes
    assert (volume.row > 0).sum() == len(classes) > 10
    for (_, x, y, z), logits in zip(classes.coords.tolist(), classes.features):
        solid = torch.cat([logits[: CLASSES.free], logits[CLASSES.free + 1 :]]).softmax(0)
        found = np.delete(volume.probabilities[volume.row[x, y, z]], CLASSES.free)
        assert np.allclose(found, solid, atol=1e-6)


@given(st.integers(0, 1000), st.floats(0.2, 0.9))
def test_thresholds_against_a_loop(seed, precision):
    rng = np.random.default_rng(seed)
    votes = np.round(rng.dirichlet([0.4] * 4, 120), 1)  # many of the same confidence
    truth = np.where(rng.random(120) < 0.5, votes.argmax(1), rng.integers(0, 4, 120))
    found = class_thresholds(votes, truth, 4, precision)
    for label in range(4):
        named = (votes.argmax(1) == label) & (votes.max(1) > 0)
        good = [
            level
            for level in np.unique(votes.max(1)[named])
            if (above := named & (votes.max(1) >= level)).sum() >= LEAST_CELLS and (truth[above] == label).mean() >= precision
        ]
        assert found[label] == (min(good) if good else NEVER)


def test_rays_have_the_last_word_and_doubtful_classes_are_left_out():
    occupancy = np.full((2, 2, 2), 255, np.uint8)
    occupancy[0] = 1  # four occupied cells
    occupancy[1, 0] = 0
    votes = np.zeros((4, COUNT), np.float32)
    votes[0, ROAD] = 0.9
    votes[1, [ROAD, CAR]] = 0.6, 0.4  # not sure enough
    votes[2, [ROAD, CAR]] = 0.6, 0.4  # the pixel tips it over
    thresholds = np.full(COUNT, 0.8)
    pixels = np.full((2, 2, 2), 255, np.uint8)
    pixels[0, 1, 0] = CAR
    pixels[1] = CAR  # a pixel makes no free cell occupied
    target = target_of(occupancy, votes, pixels, thresholds, CLASSES, 0.35)
    assert target[0].ravel().tolist() == [ROAD, SOLID, CAR, SOLID]
    assert target[1].ravel().tolist() == [CLASSES.free, CLASSES.free, 255, 255]
    assert target_of(occupancy, votes, None, thresholds, CLASSES, 0.35)[0].ravel().tolist() == [ROAD, SOLID, SOLID, SOLID]


def test_the_occupancy_bias_is_the_best_of_all_when_it_is_put_into_the_weights():
    network, rooms = talkative(), Rooms("a")
    frames = [(prepare(rooms.frame(i), GRID, NETWORK), rooms.world(i)) for i in range(2)]
    steps = (-1.0, -0.3, 0.0, 0.4, 1.5, 2.5)

    def iou(step):
        add_free_bias(network, CLASSES.free, step)
        both = either = 0
        with torch.inference_mode():
            for inputs, target in frames:
                said = network.label_grid(inputs, CLASSES.free)[0][0].numpy() != CLASSES.free
                both, either = both + (said & (target != 0)).sum(), either + (said | (target != 0)).sum()
        add_free_bias(network, CLASSES.free, -step)
        return both / either

    found = choose_occupancy_bias(network, frames, CLASSES.free, steps)
    scores = {step: iou(step) for step in steps}
    assert len(set(scores.values())) > 2 and scores[found] == max(scores.values())
    assert choose_occupancy_bias(network, [], CLASSES.free) == 0


class Swept(Rooms):
    """Rooms with a scan between frames, a metre behind and a tenth of a second before each."""

    def frame(self, i):
        return replace(super().frame(i), stamp=10**9 * i, T_world_lidar=np.eye(4))

    def sweeps(self, i, count):
        return [Frame(10**9 * i - 10**8, self.points(i), T_world_lidar=shift(-1.0))][:count]

    def sweep_files(self, i, count):
        return []


def test_teacher_and_student_of_a_network_that_reads_sweeps_read_them(tmp_path, monkeypatch):
    """Of recordings too, of which nothing else but scans, images and poses is read: as on the robot."""
    network = NETWORK.model_copy(update={"points": NETWORK.points.model_copy(update={"sweeps": 2})})
    wide = spec().model_copy(update={"network": network})
    shown = []
    monkeypatch.setattr(teacher_module, "prepare", lambda frame, *rest: shown.append(frame) or prepare(frame, *rest))
    rooms = Swept("a")
    Teacher(wide, wide.build().eval(), UnlabelledDataset(rooms), 2).volume(1)
    samples = AdaptSamples([Swept("b")], [rooms], wide, AdaptConfig(), None, tmp_path)
    for frame in (shown[0], samples.frame(samples.recorded_items[1])):
        ages, count = np.unique(frame.ages, return_counts=True)
        assert np.allclose(ages, [0, 0.1]) and count[0] == len(rooms.points(1)) and count[1] > 0
