# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from occle_core.bundle import BundleError, load_bundle, read_spec, rig_spec, save_bundle, weights_digest
from occle_core.frame import Frame
from occle_core.predictor import Predictor
from occle_core.taxonomy import load, read_classes

OWN = {
    "name": "mine",
    "free": "nothing",
    "classes": {"nothing": [0, 0, 0], "wall": [10, 20, 30], "post": [255, 0, 1]},
    "thin": ["post"],
    "voxels": {0: 0, 50: 1, 80: 2, 81: 2},
}


def written(folder: Path, **changes: object) -> Path:
    file = folder / "classes.yaml"
    file.write_text(yaml.safe_dump(OWN | changes, sort_keys=False))
    return file


@pytest.mark.parametrize(
    ("name", "classes", "free"),
    [("semantickitti", 20, 0), ("occ3d_nuscenes", 18, 17), ("sscbench_kitti360", 19, 0), ("warehouse", 13, 0)],
)
def test_sizes_and_free_class(name, classes, free):
    taxonomy = load(name)
    assert taxonomy.num_classes == classes == len(taxonomy.names) == len(taxonomy.colors) == len(set(taxonomy.names))
    assert taxonomy.free == free == taxonomy.id("free")
    assert taxonomy.ignore == 255
    assert taxonomy.colors.dtype == np.uint8 and len(np.unique(taxonomy.colors, axis=0)) == classes
    assert taxonomy.free not in taxonomy.thin


def test_names_ignore_case_and_dashes():
    assert load("SemanticKITTI") is load("semantickitti")
    assert load("Occ3D-nuScenes").name == "occ3d_nuscenes"
    assert load("SSCBench-KITTI-360").name == "sscbench_kitti360"
    with pytest.raises(KeyError, match="semantickitti"):
        load("cityscapes")
    with pytest.raises(KeyError, match="motorcycle"):
        load("semantickitti").id("moped")


def test_semantickitti_agrees_with_the_official_list(real_data):
    file = real_data.parent / "facts" / "semantickitti_labels.csv"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    taxonomy = load("semantickitti")
    listed = {int(row["raw_id"]): row for row in csv.DictReader(file.open())}
    raw = np.arange(65536)
    voxels, points = taxonomy.from_raw(raw), taxonomy.points_from_raw(raw)
    for number in range(300):
        row = listed.get(number)
        assert voxels[number] == (int(row["ssc_class"]) if row else 255), number
        learning = int(row["learning_class"]) if row else 0
        assert points[number] == (learning or 255), number
        if row and taxonomy.names[voxels[number] if voxels[number] < 20 else 0] == row["name"]:
            assert taxonomy.colors[voxels[number]].tolist() == [int(row[f"bgr_{c}"]) for c in "rgb"]
    assert (voxels[300:] == 255).all() and (points[300:] == 255).all()


def test_semantickitti_by_name():
    taxonomy = load("semantickitti")
    raw = {
        0: "free",
        10: "car",
        252: "car",
        40: "road",
        60: "road",
        50: "building",
        70: "vegetation",
        71: "trunk",
        81: "traffic-sign",
    }
    assert [taxonomy.names[label] for label in taxonomy.from_raw(list(raw))] == list(raw.values())
    assert taxonomy.from_raw([1, 52, 99, 2, 65535]).tolist() == [255] * 5
    assert taxonomy.points_from_raw([0, 1, 52, 99, 10]).tolist() == [255, 255, 255, 255, 1]
    assert taxonomy.colors[taxonomy.id("car")].tolist() == [100, 150, 245]  # blue, not BGR's orange


def test_occ3d_voxels_are_class_ids_and_points_are_lidarseg():
    taxonomy = load("occ3d-nuscenes")
    assert taxonomy.from_raw(np.arange(19)).tolist() == [*range(18), 255]
    merged = [
        255,
        255,
        7,
        7,
        7,
        255,
        7,
        255,
        255,
        1,
        255,
        255,
        8,
        255,
        2,
        3,
        3,
        4,
        5,
        255,
        255,
        6,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        255,
        16,
        255,
    ]
    assert taxonomy.points_from_raw(np.arange(32, dtype=np.uint8)).tolist() == merged
    assert taxonomy.names[11] == "driveable_surface" and taxonomy.names[16] == "vegetation"


def test_sscbench_kitti360_tables():
    taxonomy = load("sscbench_kitti360")
    raw = [
        0,
        1,
        10,
        11,
        13,
        15,
        16,
        18,
        20,
        30,
        31,
        32,
        40,
        44,
        48,
        49,
        50,
        51,
        52,
        60,
        70,
        71,
        72,
        80,
        81,
        99,
        252,
        253,
        254,
        255,
        258,
    ]
    expected = [0, 255, 1, 2, 5, 3, 5, 4, 5, 6, 255, 255, 7, 8, 9, 10, 11, 12, 17, 7, 13, 255, 14, 15, 16, 18, 1, 255, 6, 255, 4]
    assert taxonomy.from_raw(raw).tolist() == expected
    names = {
        7: "road",
        8: "sidewalk",
        9: "parking",
        11: "building",
        21: "vegetation",
        24: "person",
        26: "car",
        33: "bicycle",
        41: "other-object",
    }
    assert [taxonomy.names[label] for label in taxonomy.points_from_raw(list(names))] == list(names.values())
    assert taxonomy.points_from_raw([0, 1, 23, 25]).tolist() == [255] * 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.int32, np.int64])
def test_every_integer_type_and_shape(dtype):
    taxonomy = load("semantickitti")
    raw = np.array([[0, 10, 40], [50, 80, 99]], dtype)
    labels = taxonomy.from_raw(raw)
    assert labels.dtype == np.uint8 and labels.tolist() == [[0, 1, 9], [13, 18, 255]]


def test_ids_outside_the_table_are_ignored_and_fractions_refused():
    taxonomy = load("semantickitti")
    assert taxonomy.from_raw(np.array([-1, 70000, 1 << 40])).tolist() == [255] * 3
    with pytest.raises(TypeError, match="float64"):
        taxonomy.from_raw([1.5])


def test_a_class_list_of_ones_own(tmp_path):
    mine = load(read_classes(written(tmp_path)))
    assert (mine.name, mine.names, mine.free, mine.thin) == ("mine", ("nothing", "wall", "post"), 0, (2,))
    assert mine.colors.tolist() == [[0, 0, 0], [10, 20, 30], [255, 0, 1]]
    assert mine.from_raw([0, 50, 80, 81, 10, 65535]).tolist() == [0, 1, 2, 2, 255, 255]
    assert mine.points_from_raw([0, 50, 80]).tolist() == [255, 1, 2], "a point is never free"
    points = load(read_classes(written(tmp_path, points={7: 1})))
    assert points.points_from_raw([7, 50]).tolist() == [1, 255]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"free": "air"}, "air .under free. is not one of the classes nothing, wall, post"),
        ({"thin": ["rope"]}, "rope .under thin. is not one of the classes"),
        ({"ground": ["wall", "lawn"]}, "lawn .under ground. is not one of the classes"),
        ({"voxels": {9: 3}}, "class id 3 .under voxels or points. does not exist; ids are 0 to 2"),
        ({"voxels": {70000: 1}}, "voxels.70000"),
        ({"classes": {"nothing": [0, 0, 256], "wall": [0, 0, 1]}, "thin": []}, "classes.nothing.2"),
        ({"classes": {"nothing": [0, 0, 0]}, "thin": [], "voxels": {}}, "classes"),
        ({"colour": 1}, "colour"),
        ({"name": "Semantic-KITTI"}, "Semantic-KITTI is the name of a shipped class list"),
    ],
)
def test_a_class_list_that_cannot_be_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=f"{tmp_path}.*{said}"):
        read_classes(written(tmp_path, **changes))


def test_a_class_list_that_cannot_be_read_is_one_line(tmp_path):
    for file in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(ValueError, match=f"class list {file} cannot be read: ") as error:
            read_classes(file)
        assert "\n" not in str(error.value) and "Errno" not in str(error.value)
    (tmp_path / "broken.yaml").write_text("classes: [")
    with pytest.raises(ValueError, match="cannot be read as a class list"):
        read_classes(tmp_path / "broken.yaml")


def test_the_class_list_travels_in_the_bundle(tmp_path):
    file = written(tmp_path)
    spec = rig_spec("tiny", "kitti", classes=read_classes(file))
    network = spec.build()
    assert network.head.out_features == 3
    save_bundle(tmp_path / "bundle", spec, network)
    file.unlink()
    read, _, _ = load_bundle(tmp_path / "bundle")
    assert load(read.taxonomy).names == ("nothing", "wall", "post") and read.taxonomy == spec.taxonomy
    assert load(read.taxonomy).from_raw([81]).tolist() == [2]
    other = rig_spec("tiny", "kitti", classes=read_classes(written(tmp_path, free="wall")))
    assert weights_digest(spec, network) != weights_digest(other, network), "an engine built for other classes is another one"
    assert isinstance(read_spec(Path(__file__).resolve().parents[2] / "config" / "bundles" / "kitti").taxonomy, str)


NAMES = {
    "semantickitti": {"road": "wall", "pole": "post", "traffic-sign": "post"},
    "cityscapes": {"pole": "post", "traffic light": "post"},
}


def test_names_of_other_lists(tmp_path):
    """The tables, against the shipped lists' own ids."""
    own = load(read_classes(written(tmp_path, voxels={}, names=NAMES)))
    kitti = load("semantickitti")
    table = own.table_from(kitti)
    expected = {kitti.free: own.free, kitti.id("road"): 1, kitti.id("pole"): 2, kitti.id("traffic-sign"): 2}
    assert {i: int(label) for i, label in enumerate(table) if label != 255} == expected
    assert own.ids_from("cityscapes") == {"pole": 2, "traffic light": 2}
    assert own.ids_from("mine") == {"nothing": 0, "wall": 1, "post": 2}
    raw = np.array([0, 40, 60, 80, 81, 10, 99, 65535])
    data = own.for_data(kitti)
    assert data.from_raw(raw).tolist() == [0, 1, 1, 2, 2, 255, 255, 255]
    assert data.points_from_raw(raw).tolist()[1:5] == [1, 1, 2, 2] and data.points_from_raw(raw)[0] == 255
    nuscenes = load("occ3d_nuscenes")
    assert load(read_classes(written(tmp_path))).for_data(nuscenes)._voxels[81] == 2, "raw ids of its own are taken"
    with pytest.raises(ValueError, match=r"mine has no names of occ3d_nuscenes \(it has those of: semantickitti, cityscapes\)"):
        own.table_from(nuscenes)
    wrong = load(read_classes(written(tmp_path, names={"semantickitti": {"rode": "wall"}})))
    with pytest.raises(ValueError, match="semantickitti has no class 'rode'; it has"):
        wrong.table_from(kitti)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voxels": {}}, "voxels .* or names .* is missing"),
        ({"names": {"cityscapes": {"pole": "posts"}}}, r"posts \(under names.cityscapes\) is not one of the classes"),
    ],
)
def test_wrong_names_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_classes(written(tmp_path, **changes))


def test_a_network_answers_in_classes_of_ones_own(tmp_path):
    """Labels are those of the bundle's own classes through the table; confidences stay."""
    points = np.random.default_rng(0).uniform((2, -8, -1.8, 0), (20, 8, 1, 1), (4000, 4)).astype(np.float32)
    frame = Frame(0, points)
    own = load(read_classes(written(tmp_path, names=NAMES)))
    plain, mapped = Predictor.load("kitti").predict(frame), Predictor.load("kitti", classes=own).predict(frame)
    assert np.array_equal(mapped.labels, own.table_from(plain.taxonomy)[plain.labels]) and mapped.taxonomy is own
    assert np.array_equal(mapped.confidence, plain.confidence) and (plain.labels != plain.taxonomy.free).any()
    other = load(read_classes(written(tmp_path)))
    with pytest.raises(BundleError, match=r"predicts the classes of semantickitti: class list mine has no names of semantickitti"):
        Predictor.load("kitti", classes=other)


def test_labels_of_a_list_without_names_are_an_error_when_they_are_read(tmp_path):
    """They would all become unknown, and a training learn nothing; scans without labels are of use all the same."""
    nuscenes = load("occ3d_nuscenes")
    named = load(read_classes(written(tmp_path, voxels={}, names=NAMES))).for_data(nuscenes)
    raw = load(read_classes(written(tmp_path)))
    for data, source in ((named, "occ3d_nuscenes"), (raw.for_data(nuscenes.for_class_ids()), "occ3d_nuscenes")):
        for read in (data.from_raw, data.points_from_raw):
            with pytest.raises(ValueError, match=rf"labels cannot be read: class list mine has no names of {source} .*; add names"):
                read(np.array([1, 81]))
    assert raw.for_data(nuscenes).from_raw([81]).tolist() == [2]
    assert raw.for_data(raw.for_class_ids()).from_raw([2]).tolist() == [2], "its own ids need no names"
