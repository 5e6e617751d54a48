# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Simulated labels without alignment: another source, with the same mistakes."""

from types import SimpleNamespace

import numpy as np
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.noise import NoisyLabeller
from occle_train.pseudo_labels.unaligned import CITYSCAPES, UnalignedLabeller
from occle_train.streets import simulate

from occle_core import taxonomy
from occle_core.datasets import open_dataset

CLASSES = taxonomy.load("semantickitti")


def test_classes_that_the_segmenter_lacks_are_gone_and_nothing_else_differs(tmp_path):
    simulate(tmp_path, "kitti", 1, 1, 5, 0.1, 1)
    drive = open_dataset(tmp_path)
    labels, sure = DegradedLabeller(CLASSES, DegradeConfig(), 0)(drive, 0, "cam2")
    raw, raw_sure = UnalignedLabeller(CLASSES, DegradeConfig(), 0)(drive, 0, "cam2")
    lacking = {CLASSES.id(name): 255 if seen is None else CLASSES.id(seen) for name, seen in CITYSCAPES.items()}
    assert not set(np.unique(raw).tolist()) & set(lacking)
    for label in np.unique(labels).tolist():
        assert (raw[labels == label] == lacking.get(label, label)).all()
    assert (raw != labels).any() and (raw_sure[raw == 255] == 0).all() and (raw_sure[raw != 255] == sure[raw != 255]).all()


def test_noise_changes_a_share_of_the_labelled_pixels_and_no_confidence():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((200, 300)) < 0.2, 255, rng.integers(1, 20, (200, 300))).astype(np.uint8)
    sure = rng.integers(0, 255, labels.shape).astype(np.uint8)
    drive = SimpleNamespace(name="00", numbers=[7, 8])
    noisy = NoisyLabeller(lambda dataset, i, camera: (labels, sure), {"by": "hand"}, CLASSES, 0.06, 0)
    found, still = noisy(drive, 0, "cam2")
    known = labels != 255
    # One of nineteen random classes is the right one.
    assert abs((found != labels)[known].mean() - 0.06 * 18 / 19) < 0.005 and (found[~known] == 255).all() and still is sure
    assert CLASSES.free not in found[known] and noisy.source == {"of": {"by": "hand"}, "noise": 0.06, "seed": 0}
    assert np.array_equal(noisy(drive, 0, "cam2")[0], found) and not np.array_equal(noisy(drive, 1, "cam2")[0], found)
