"""Folders of label images: written completely or not at all, read with care."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from occle_core import taxonomy
from occle_core.datasets import DatasetError
from training.pseudo_labels.files import LabelFolder, label_file, write_missing

CLASSES = taxonomy.load("semantickitti")


class Images:
    """A data set of image names."""

    kind, taxonomy = "semantickitti", CLASSES

    def __init__(self, name="00", frames=3, cameras=("cam2", "cam3")):
        self.name, self.frames, self.camera_names = name, frames, cameras

    def __len__(self):
        return self.frames

    def image_file(self, i, camera):
        return Path(f"/nowhere/image/{i:06d}.jpg") if camera in self.camera_names else None


def labels_of(dataset, i, camera):
    rng = np.random.default_rng([i, len(camera)])
    return rng.choice([1, 2, 9, 255], (6, 8)).astype(np.uint8), rng.integers(0, 256, (6, 8), dtype=np.uint8)


def files_in(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_what_is_written_is_read(tmp_path):
    datasets = [Images("00"), Images("01", 1)]
    seen = []
    done = write_missing(tmp_path, datasets, labels_of, CLASSES, {"made": "up"}, lambda name, i: seen.append((name, i)))
    assert done == (8, 0) and seen == [("00", 0), ("00", 1), ("00", 2), ("01", 0)]
    assert "01/cam3/000000.png" in files_in(tmp_path) and len(files_in(tmp_path)) == 17
    folder = LabelFolder(tmp_path, CLASSES)
    for dataset in datasets:
        for i in range(len(dataset)):
            for camera in dataset.camera_names:
                assert folder.has(dataset, i, camera)
                labels, confidence = folder.read(dataset, i, camera)
                expected, sure = labels_of(dataset, i, camera)
                np.testing.assert_array_equal(labels, expected)
                np.testing.assert_allclose(confidence, np.where(expected == 255, 0, sure / 255), atol=1e-7)
                assert confidence.dtype == np.float32
    assert not folder.has(Images("02"), 0, "cam2")


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    calls = []

    def failing(dataset, i, camera):
        calls.append((i, camera))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return labels_of(dataset, i, camera)

    with pytest.raises(KeyboardInterrupt):
        write_missing(tmp_path, [Images()], failing, CLASSES, {})
    assert len(files_in(tmp_path)) == 7
    assert write_missing(tmp_path, [Images()], failing, CLASSES, {}) == (3, 3)
    assert calls[4:] == [(1, "cam3"), (2, "cam2"), (2, "cam3")]
    assert write_missing(tmp_path, [Images()], failing, CLASSES, {}) == (0, 6)


def test_a_crash_while_writing_leaves_no_half_file(tmp_path, monkeypatch):
    real = Path.replace

    def crash(self, target):
        if target.name == "000001.png":
            raise OSError("disk full")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        write_missing(tmp_path, [Images(cameras=("cam2",))], labels_of, CLASSES, {})
    assert files_in(tmp_path) == [
        "00/cam2/000000.confidence.png",
        "00/cam2/000000.png",
        "00/cam2/000001.confidence.png",
        "manifest.json",
    ]
    assert not LabelFolder(tmp_path, CLASSES).has(Images(cameras=("cam2",)), 1, "cam2")
    monkeypatch.undo()
    assert write_missing(tmp_path, [Images(cameras=("cam2",))], labels_of, CLASSES, {}) == (2, 1)


def test_labels_of_another_source_are_not_mixed_in(tmp_path):
    write_missing(tmp_path, [Images()], labels_of, CLASSES, {"threshold": 0.3, "sizes": (1, 2)})
    write_missing(tmp_path, [Images()], labels_of, CLASSES, {"threshold": 0.3, "sizes": (1, 2)})
    with pytest.raises(DatasetError, match="another way"):
        write_missing(tmp_path, [Images()], labels_of, CLASSES, {"threshold": 0.4})
    with pytest.raises(DatasetError, match="labels of semantickitti"):
        LabelFolder(tmp_path, taxonomy.load("occ3d_nuscenes"))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(DatasetError, match="format 9"):
        LabelFolder(tmp_path, CLASSES)


def put(folder, labels, confidence=None):
    file = label_file(folder, Images(), 0, "cam2")
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), labels)
    if confidence is not None:
        cv2.imwrite(str(file.with_name("000000.confidence.png")), confidence)
    return LabelFolder(folder, CLASSES)


def test_ready_label_images_need_neither_manifest_nor_confidence(tmp_path):
    labels = np.array([[1, 255, 0], [19, 9, 9]], np.uint8)
    read, confidence = put(tmp_path, labels).read(Images(), 0, "cam2")
    # 0 is free space here, which no pixel shows: unlabelled.
    assert read.tolist() == [[1, 255, 255], [19, 9, 9]]
    assert confidence.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_resizing_takes_the_nearest_pixel(tmp_path):
    labels = np.random.default_rng(0).integers(1, 20, (27, 45), dtype=np.uint8)
    sure = np.random.default_rng(1).integers(0, 256, (27, 45), dtype=np.uint8)
    read, confidence = put(tmp_path, labels, sure).read(Images(), 0, "cam2", size=(5, 3))
    assert read.shape == (3, 5)
    for v, u in np.ndindex(3, 5):
        assert read[v, u] == labels[9 * v + 4, 9 * u + 4]
        assert confidence[v, u] == pytest.approx(sure[9 * v + 4, 9 * u + 4] / 255)


def test_broken_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match="no folder of label images"):
        LabelFolder(tmp_path / "absent", CLASSES)
    with pytest.raises(DatasetError, match=r"000002.png is missing"):
        put(tmp_path, np.ones((4, 4), np.uint8)).read(Images(), 2, "cam2")
    with pytest.raises(DatasetError, match="no image of camera cam9"):
        LabelFolder(tmp_path, CLASSES).read(Images(), 0, "cam9")
    with pytest.raises(DatasetError, match=r"\[20, 77\]"):
        put(tmp_path, np.array([[1, 20], [77, 255]], np.uint8)).read(Images(), 0, "cam2")
    with pytest.raises(DatasetError, match="one channel"):
        put(tmp_path, np.ones((4, 4, 3), np.uint8)).read(Images(), 0, "cam2")
    with pytest.raises(DatasetError, match="but its labels are"):
        put(tmp_path, np.ones((4, 4), np.uint8), np.ones((4, 5), np.uint8)).read(Images(), 0, "cam2")
    label_file(tmp_path, Images(), 0, "cam2").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="cannot be decoded"):
        LabelFolder(tmp_path, CLASSES).read(Images(), 0, "cam2")
