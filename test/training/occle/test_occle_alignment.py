# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The alignment tables against MSeg's own list and the paper's printed ones, and the merging pixel by pixel."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from occle_train.occle.alignment import load_alignment, parse_alignment
from occle_train.occle.labeller import AlignedLabeller, UniversalLabelFolder
from occle_train.pseudo_labels.universal_names import parse_renames, universal_name

from occle_core import taxonomy
from occle_core.datasets import DatasetError

ALL = ["semantickitti", "occ3d_nuscenes", "sscbench_kitti360"]
FACTS = Path(__file__).resolve().parents[4] / "shared" / "facts" / "mseg_universal.csv"

# OccLE's tables B.1 and B.2 as printed, but for what the files call misprints.
B1 = {
    "car": [176], "bicycle": [175], "motorcycle": [178], "truck": [182], "other-vehicle": [177, 180, 181, 183, 185],
    "person": [125], "bicyclist": [126, 127], "motorcyclist": [128], "road": [98], "parking": [138], "sidewalk": [100],
    "other-ground": [132, 137, 191], "building": [35], "fence": [144, 131], "vegetation": [174], "terrain": [102],
    "pole": [143, 130, 145, 146, 162], "traffic-sign": [135, 136],
}  # fmt: skip
B2 = {
    "barrier": [130, 131, 144, 145, 146], "bicycle": [175], "bus": [180], "car": [176], "motorcycle": [178, 128],
    "pedestrian": [125], "trailer": [183], "truck": [182], "driveable_surface": [98], "other_flat": [96, 97],
    "sidewalk": [100], "terrain": [102], "manmade": [191, 192, *range(132, 142), 35], "vegetation": [174],
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_every_id_has_the_name_that_mseg_gives_it(name):
    if not FACTS.is_file():
        pytest.skip(f"MSeg's class list is not at {FACTS}")
    universal = {int(row["id"]): row["name"] for row in csv.DictReader(FACTS.open())}
    names = load_alignment(taxonomy.load(name)).names
    assert names == {number: universal[number] for number in names}


@pytest.mark.parametrize(("name", "printed"), [("semantickitti", B1), ("occ3d_nuscenes", B2)])
def test_tables_are_the_papers(name, printed):
    classes = taxonomy.load(name)
    table = load_alignment(classes).table
    expected = {number: classes.id(label) for label, numbers in printed.items() for number in numbers}
    rest = classes.id("others") if name == "occ3d_nuscenes" else 255
    assert {number: int(table[number]) for number in range(194)} == {number: expected.get(number, rest) for number in range(194)}
    assert table[255] == 255


@pytest.mark.parametrize(
    ("name", "asked"), [("semantickitti", {"trunk"}), ("occ3d_nuscenes", {"construction_vehicle", "traffic_cone"})]
)
def test_the_open_vocabulary_model_is_asked_for_what_mseg_lacks(name, asked):
    classes = taxonomy.load(name)
    alignment = load_alignment(classes)
    assert (
        {classes.names[label] for label in alignment.prompts.classes} == asked == {classes.names[label] for label in alignment.over}
    )


@pytest.mark.parametrize("name", ALL)
def test_every_class_has_a_source(name):
    classes = taxonomy.load(name)
    alignment = load_alignment(classes)
    sources = set(alignment.table.tolist()) | set(alignment.prompts.classes)
    assert set(range(classes.num_classes)) - {classes.free} <= sources


def test_merging_pixel_by_pixel():
    classes = taxonomy.load("semantickitti")
    alignment = load_alignment(classes)
    rng = np.random.default_rng(0)
    primary = rng.choice([*range(1, 20), 255], (40, 50)).astype(np.uint8)
    found = rng.choice([classes.id("trunk"), classes.id("car"), 255], (40, 50)).astype(np.uint8)
    merged = alignment.merge(primary, found)
    over = {classes.id(label) for label in ("vegetation", "terrain", "building", "fence")} | {255}
    for row in range(40):
        for column in range(50):
            wins = found[row, column] == classes.id("trunk") and int(primary[row, column]) in over
            assert merged[row, column] == (classes.id("trunk") if wins else primary[row, column])
    assert (merged != primary).any() and not (merged == classes.id("car"))[primary != classes.id("car")].any()


def test_images_of_different_sizes_cannot_be_merged():
    alignment = load_alignment(taxonomy.load("semantickitti"))
    with pytest.raises(ValueError, match="different sizes"):
        alignment.merge(np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8))


TABLE = """
dataset_specific: {car: {176: car}, truck: {182: truck}}
rest: unlabelled
open_vocabulary: {trunk: {phrases: [tree trunk], over: [unlabelled]}}
"""


def test_a_table_that_contradicts_itself_is_refused():
    classes = taxonomy.load("semantickitti")
    twice = yaml.safe_load(TABLE)
    twice["dataset_specific"]["truck"] = {176: "car"}
    with pytest.raises(ValueError, match=r"176 .* two classes"):
        parse_alignment(twice, classes)
    both = yaml.safe_load(TABLE)
    both["dataset_specific"]["trunk"] = {174: "vegetation"}
    with pytest.raises(ValueError, match="trunk cannot be aligned"):
        parse_alignment(both, classes)
    unknown = yaml.safe_load(TABLE)
    unknown["dataset_specific"]["lorry"] = {183: "trailer"}
    with pytest.raises(KeyError, match="lorry"):
        parse_alignment(unknown, classes)


class Drive:
    """As much of a data set as a labeller needs."""

    name, kind, camera_names = "00", "semantickitti", ("cam2",)

    def image_file(self, i, camera):
        return Path("image_2") / f"{i:06d}.png" if camera == "cam2" else None


def test_label_maps_from_disk_are_aligned_and_completed(tmp_path):
    classes = taxonomy.load("semantickitti")
    universal = np.array([[176, 174, 142], [98, 174, 255]], np.uint8)
    (tmp_path / "00" / "cam2").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "00" / "cam2" / "000003.png"), universal)
    trunk = np.array([[classes.id("trunk")] * 2 + [255]] * 2, np.uint8)
    sure = np.full((2, 3), 90, np.uint8)
    alignment = load_alignment(classes)
    labels, confidence = AlignedLabeller(UniversalLabelFolder(tmp_path), lambda *_: (trunk, sure), alignment)(Drive(), 3, "cam2")
    names = [["car", "trunk", None], ["road", "trunk", None]]
    assert labels.tolist() == [[255 if name is None else classes.id(name) for name in row] for row in names]
    assert confidence.tolist() == [[255, 90, 0], [255, 90, 0]]
    alone, _ = AlignedLabeller(UniversalLabelFolder(tmp_path), None, alignment)(Drive(), 3, "cam2")
    assert classes.id("trunk") not in alone and (alone[:, 1] == classes.id("vegetation")).all()


def test_label_maps_of_another_taxonomy_are_told(tmp_path):
    (tmp_path / "00" / "cam2").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "00" / "cam2" / "000000.png"), np.full((2, 2), 200, np.uint8))
    with pytest.raises(DatasetError, match=r"\[200\]"):
        UniversalLabelFolder(tmp_path)(Drive(), 0, "cam2")
    with pytest.raises(DatasetError, match="no folder of MSeg label maps"):
        UniversalLabelFolder(tmp_path / "none")


def test_any_transformers_segmenter_can_be_the_specific_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    from occle_train.occle.labeller import TransformersSegmenter

    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 8], num_attention_heads=[1, 1], patch_sizes=[7, 3],
        strides=[4, 2], mlp_ratios=[2, 2], decoder_hidden_size=8, id2label={0: "Road", 1: "auto", 2: "sky"},
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}')
    alignment = load_alignment(taxonomy.load("semantickitti"))
    segmenter = TransformersSegmenter(str(tmp_path), alignment, {"auto": "car"})
    assert segmenter.table.tolist() == [98, 176, 255] and segmenter.mean == [0.5, 0.5, 0.5]
    universal, confidence = segmenter.label(np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8))
    assert universal.shape == confidence.shape == (32, 64) and set(np.unique(universal)) <= {98, 176, 255}
    assert (confidence[universal == 255] == 0).all()
    config.id2label = {0: "x", 1: "y", 2: "z"}
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="universal one"):
        TransformersSegmenter(str(tmp_path), alignment)


NAMES = "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky person rider car truck bus train "
CITYSCAPES = (*NAMES.split(), "motorcycle", "bicycle")


@pytest.mark.parametrize("name", ["semantickitti", "occ3d_nuscenes", "sscbench_kitti360"])
def test_no_class_of_a_cityscapes_model_gets_lost_but_those_that_no_table_has(name):
    alignment = load_alignment(taxonomy.load(name))
    known = set(alignment.names.values())
    found = {label: universal_name(label, known, {}) for label in CITYSCAPES}
    allowed = {"sky"} | {"occ3d_nuscenes": {"fence", "pole", "train"}, "semantickitti": set(), "sscbench_kitti360": set()}[name]
    assert {label for label, universal in found.items() if universal is None} <= allowed
    assert found["sidewalk"] == "sidewalk_pavement" and found["rider"] in ("rider_other", "person")
    assert universal_name("rider", known, {"rider": "person"}) == "person"


def test_own_names_are_read_and_wrong_ones_refused():
    known = {"sidewalk_pavement", "car"}
    assert parse_renames(["Foot path = sidewalk_pavement", "auto=car"], known) == {"foot_path": "sidewalk_pavement", "auto": "car"}
    for text in ("auto", "auto=truck", "=car"):
        with pytest.raises(ValueError, match=r"give CLASS=UNIVERSAL.*car, sidewalk_pavement"):
            parse_renames([text], known)
