# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Degraded semantic images: every kind of error by itself, on drawn streets and on simulated ones."""

import cv2
import numpy as np
import pytest
from occle_train.minkocc.pixel_labels import PixelLabels
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller, degrade, load_confusions, semantic_file
from occle_train.pseudo_labels.label_folder import LabelFolder, write_missing
from occle_train.streets.simulate import simulate

from occle_core import taxonomy
from occle_core.datasets import DatasetError, open_dataset

CLASSES = taxonomy.load("occ3d_nuscenes")
CONFUSIONS = load_confusions(CLASSES)
CAR, ROAD, SIDEWALK, TRUCK, PERSON = (CLASSES.id(n) for n in ("car", "driveable_surface", "sidewalk", "truck", "pedestrian"))
NOTHING = DegradeConfig(outline_noise=0, miss_prob=0, small_area=0, confusion_scale=0)


def street():
    """Sky, road, sidewalk, and 60 separate cars of different sizes."""
    labels = np.full((240, 400), ROAD, np.uint8)
    labels[:60] = 255
    labels[200:] = SIDEWALK
    for n in range(60):
        x, y, size = 10 + 40 * (n % 10), 65 + 22 * (n // 10), 2 + n // 6
        labels[y : y + size, x : x + size] = CAR
    return labels


def as_mask(label):
    return (street() == label).astype(np.uint8)


def test_without_errors_only_confidences_are_new():
    labels, confidence = degrade(street(), CONFUSIONS, NOTHING, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, street())
    assert (confidence[labels == 255] == 0).all() and (confidence[labels != 255] >= round(0.3 * 255)).all()


def test_the_same_seed_gives_the_same_labels():
    runs = [degrade(street(), CONFUSIONS, DegradeConfig(), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], runs[1]))
    assert not np.array_equal(runs[0][0], runs[2][0])


def test_outlines_wander_by_the_stated_width_and_insides_stay():
    labels = np.full((200, 400), ROAD, np.uint8)
    labels[:, 200:] = SIDEWALK
    shifts = []
    for seed in range(30):
        bent, _ = degrade(labels, CONFUSIONS, NOTHING.model_copy(update={"outline_noise": 0.01}), np.random.default_rng(seed))
        shifts.append((bent == ROAD).sum(1) - 200)
        assert (bent[:, :170] == ROAD).all() and (bent[:, 230:] == SIDEWALK).all()
    # 0.01 * 400 = 4 pixels where a displacement is drawn, less in between.
    assert 2 < np.std(shifts) < 4.5 and abs(np.mean(shifts)) < 1


def test_small_segments_are_lost_more_often_than_large_ones():
    # Segments of 4..121 pixels, six of each size.
    config, count, segment = NOTHING.model_copy(update={"small_area": 25 / street().size}), *cv2.connectedComponents(as_mask(CAR))
    places = [np.argwhere(segment == n)[0] for n in range(1, count)]
    kept = np.zeros(count - 1)
    for seed in range(30):
        labels, _ = degrade(street(), CONFUSIONS, config, np.random.default_rng(seed))
        kept += [(labels[v, u] == CAR) / 30 for v, u in places]
    area = np.array([(segment == n).sum() for n in range(1, count)])
    for size in np.unique(area):
        assert kept[area == size].mean() == pytest.approx(1 - np.exp(-size / 25), abs=0.12)
    missed = NOTHING.model_copy(update={"miss_prob": 0.3})
    share = np.mean(
        [(degrade(street(), CONFUSIONS, missed, np.random.default_rng(s))[0][220] == SIDEWALK).all() for s in range(100)]
    )
    assert share == pytest.approx(0.7, abs=0.14)


def test_segments_are_confused_as_the_table_says_and_whole():
    config, taken = NOTHING.model_copy(update={"confusion_scale": 1.0}), []
    for seed in range(25):
        labels, confidence = degrade(street(), CONFUSIONS, config, np.random.default_rng(seed))
        count, segment = cv2.connectedComponents(as_mask(CAR))
        for n in range(1, count):
            assert len(np.unique(labels[segment == n])) == len(np.unique(confidence[segment == n])) == 1
            taken.append(labels[segment == n][0])
    assert set(np.unique(taken).tolist()) == {CAR, TRUCK}
    assert np.mean(np.array(taken) == TRUCK) == pytest.approx(0.04, abs=0.015)


def test_confidence_tells_partly_what_is_right():
    config, right, wrong = DegradeConfig(outline_noise=0, small_area=0), [], []
    labels = street()
    labels[street() == CAR] = CLASSES.id("trailer")  # often taken for trucks
    for seed in range(20):
        got, confidence = degrade(labels, CONFUSIONS, config, np.random.default_rng(seed))
        cars = (labels == CLASSES.id("trailer")) & (got != 255)
        right.append(confidence[cars & (got == labels)] / 255)
        wrong.append(confidence[cars & (got != labels)] / 255)
    right, wrong = np.concatenate(right), np.concatenate(wrong)
    assert right.mean() == pytest.approx(0.65, abs=0.04) and wrong.mean() == pytest.approx(0.46, abs=0.04)
    assert right.min() < wrong.max() and min(right.min(), wrong.min()) >= 0.3 - 1 / 255


@pytest.mark.parametrize("name", ["occ3d_nuscenes", "semantickitti"])
def test_tables_of_confusions_are_probabilities_over_other_classes(name):
    classes = taxonomy.load(name)
    confusions = load_confusions(classes)
    assert set(confusions) == set(range(classes.num_classes)) - {classes.free}
    for label, (names, chances) in confusions.items():
        assert names[0] == label and len(set(names.tolist())) == len(names) and classes.free not in names
        assert chances.sum() == pytest.approx(1) and chances[0] >= 0.3
    with pytest.raises(KeyError, match="no confusions for sscbench"):
        load_confusions(taxonomy.load("sscbench_kitti360"))


@pytest.mark.parametrize("rig, scale", [("kitti", 0.15), ("nuscenes", 0.08)])
def test_simulated_streets_have_pixel_classes_and_get_pseudo_labels(rig, scale, tmp_path):
    simulate(tmp_path / "data", rig=rig, frames=1, scale=scale, seed=5, workers=1)
    dataset = open_dataset(tmp_path / "data")
    labeller = DegradedLabeller(dataset.taxonomy, DegradeConfig(), seed=0)
    cameras = len(dataset.camera_names)
    assert write_missing(tmp_path / "labels", [dataset], labeller, dataset.taxonomy, labeller.source) == (cameras, 0)
    agree = labelled = known = 0
    for camera in dataset.camera_names:
        truth = cv2.imread(str(semantic_file(dataset, 0, camera)), cv2.IMREAD_UNCHANGED)
        labels, _ = LabelFolder(tmp_path / "labels", dataset.taxonomy).read(dataset, 0, camera)
        assert labels.shape == cv2.imread(str(dataset.image_file(0, camera))).shape[:2]
        agree += ((labels == truth) & (labels != 255)).sum()
        labelled += (labels != 255).sum()
        known += (truth != 255).sum()
        small, sure = PixelLabels(None)(dataset, 0, camera, (truth.shape[1] // 2, truth.shape[0] // 2))
        assert set(np.unique(small)) <= set(np.unique(truth)) and ((sure == 1) == (small != 255)).all()
        assert abs((small == 255).mean() - (truth == 255).mean()) < 0.05 and dataset.taxonomy.free not in small
        assert PixelLabels(None, simulated=False)(dataset, 0, camera, (40, 20)) is None
    assert 0.6 < labelled / known < 1 and 0.5 < agree / labelled < 1


def test_data_that_was_not_simulated_is_refused(tmp_path):
    class Recorded:
        kind, name, camera_names = "semantickitti", "00", ("cam2",)

        def image_file(self, i, camera):
            return tmp_path / "image_2" / "000000.png" if camera == "cam2" else None

    with pytest.raises(DatasetError, match="only simulated streets"):
        semantic_file(Recorded(), 0, "cam2")
    with pytest.raises(DatasetError, match="no camera cam3"):
        semantic_file(Recorded(), 0, "cam3")
