from __future__ import annotations

import csv

import numpy as np
import pytest

from occle_core.taxonomy import load


@pytest.mark.parametrize(
    ("name", "classes", "free"), [("semantickitti", 20, 0), ("occ3d_nuscenes", 18, 17), ("sscbench_kitti360", 19, 0)]
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
