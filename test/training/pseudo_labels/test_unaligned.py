"""Simulated labels without alignment: another source, with the same mistakes."""

import numpy as np
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
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
