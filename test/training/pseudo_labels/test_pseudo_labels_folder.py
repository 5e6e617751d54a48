# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of label images: written completely or not at all, read with care."""

import json
import os
import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from occle_train.pseudo_labels.label_folder import LabelFolder, label_file, read_gray, write_missing

from occle_core import taxonomy
from occle_core.datasets import DatasetError

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


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_label_files_have_the_mode_that_the_umask_asks_for(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_missing(tmp_path / "labels", [Images("00", 1)], labels_of, CLASSES, {"made": "up"})
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "labels").rglob("*") if file.is_file()]
    assert len(files) == 5 and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666 & ~umask}


def png(values, depth, colour, palette=b""):
    """A PNG file written from the format's description; OpenCV cannot write these kinds."""
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = [np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :].ravel() for row in values]
        rows = [np.packbits(row).tobytes() for row in bits]

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", size), *([chunk(b"PLTE", palette)] if palette else [])]
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", content), chunk(b"IEND", b"")])


@pytest.mark.parametrize("colour", ["grey", "palette of colours", "palette of greys"])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_ids_are_read_as_they_are_stored_whatever_the_depth(tmp_path, depth, colour):
    """Annotation tools write palettes, and as few bits as the ids need."""
    if colour != "grey" and depth == 16:
        pytest.skip("palettes have at most 8 bits")
    values = np.random.default_rng(depth).integers(0, min(2**depth, 256), (5, 13))
    entries = min(2**depth, 256)
    colours = np.random.default_rng(1).integers(0, 256, 3 * entries) if "colours" in colour else np.repeat(np.arange(entries), 3)
    palette = b"" if colour == "grey" else colours.astype(np.uint8).tobytes()
    (tmp_path / "x.png").write_bytes(png(values, depth, 0 if colour == "grey" else 3, palette))
    np.testing.assert_array_equal(read_gray(tmp_path / "x.png"), values)


def test_images_that_hold_no_ids_are_refused(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(png(np.full((2, 3), 300), 16, 0))
    with pytest.raises(DatasetError, match=r"x\.png is uint16 \(2, 3\) with values up to 300; label images have one channel"):
        read_gray(file)
    cv2.imwrite(str(file), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"x\.png is uint8 \(4, 5, 3\)"):
        read_gray(file)
    values = np.arange(12).reshape(3, 4)
    whole = png(values, 8, 3, bytes(range(256)) * 3)
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        try:
            np.testing.assert_array_equal(read_gray(file), values)
            assert length > len(whole) - 22  # only checksums and the end mark are missing
        except DatasetError as error:
            assert "x.png" in str(error)
