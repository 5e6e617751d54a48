# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Grounding DINO, SAM and SAM 2 through their real loading code, with small random weights."""

import numpy as np
import pytest
import torch
from occle_train.pseudo_labels import segment
from occle_train.pseudo_labels.detect import GroundingDino
from occle_train.pseudo_labels.grounded_sam import GroundedSam, paint_masks
from occle_train.pseudo_labels.prompts import load_prompts, parse_prompts
from occle_train.pseudo_labels.segment import load_segmenter

from occle_core import taxonomy

transformers = pytest.importorskip("transformers", reason="pip install transformers")

from tiny_models import save_grounding_dino, save_sam, save_sam2  # noqa: E402

PHRASES = ("traffic cone", "road", "sky", "car")
IMAGE = np.random.default_rng(0).integers(0, 255, (45, 80, 3), dtype=np.uint8)
CORNERS = np.array([[5, 5, 40, 30], [30, 2, 79, 44], [0, 0, 12, 9]], np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    savers = {"dino": save_grounding_dino, "sam": save_sam, "sam2": save_sam2}
    return {name: save(folder / name) for name, save in savers.items()}


def test_boxes_are_those_of_transformers_and_scores_average_over_a_phrases_tokens(models):
    detector = GroundingDino(models["dino"], PHRASES, threshold=0.0)
    found = detector(IMAGE)
    inputs = detector.processor(images=IMAGE, text="traffic cone. road. sky. car.", return_tensors="pt")
    with torch.inference_mode():
        outputs = detector.model(**inputs)
    theirs = detector.processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=[(45, 80)])[0]
    limits = torch.tensor([80.0, 45, 80, 45])
    np.testing.assert_allclose(found.corners, theirs["boxes"].clamp(min=0).minimum(limits), atol=1e-4)
    # Tokens: [CLS] traffic cone . road . sky . car . [SEP]
    probability = torch.sigmoid(outputs.logits[0]).numpy()
    by_hand = np.stack([probability[:, 1:3].mean(1), probability[:, 4], probability[:, 6], probability[:, 8]], 1)
    np.testing.assert_allclose(found.scores, by_hand.max(1), rtol=1e-5)
    np.testing.assert_array_equal(found.phrases, by_hand.argmax(1))


def test_only_boxes_above_the_threshold_are_kept(models):
    everything = GroundingDino(models["dino"], PHRASES, threshold=0.0)(IMAGE)
    middle = float(np.median(everything.scores))
    some = GroundingDino(models["dino"], PHRASES, threshold=middle)(IMAGE)
    assert len(some.scores) == (everything.scores >= middle).sum() < len(everything.scores)
    assert len(GroundingDino(models["dino"], PHRASES, threshold=1.0)(IMAGE).scores) == 0


def test_more_phrases_than_the_text_encoder_reads_are_split(models):
    phrases = (*PHRASES, "person", "tree", "car tree", "road cone", "traffic")
    detector = GroundingDino(models["dino"], phrases, threshold=0.0)
    # [CLS] and [SEP], and a token for every word and full stop: at most 16.
    assert [text for text, _, _ in detector.captions] == [
        "traffic cone. road. sky. car. person. tree.",
        "car tree. road cone. traffic.",
    ]
    assert set(detector(IMAGE).phrases.tolist()) <= set(range(9)) and len(detector(IMAGE).scores) == 24
    with pytest.raises(ValueError, match="more tokens"):
        GroundingDino(models["dino"], ["car " * 20 + "car"])


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_masks_have_the_images_size_and_do_not_depend_on_how_boxes_are_grouped(models, kind, monkeypatch):
    segmenter = load_segmenter(models[kind])
    masks = np.stack(list(segmenter.masks(IMAGE, CORNERS)))
    assert masks.shape == (3, 45, 80) and masks.dtype == np.bool_ and 0 < masks.mean() < 1
    monkeypatch.setattr(segment, "BOXES", 2)
    assert (np.stack(list(segmenter.masks(IMAGE, CORNERS))) != masks).mean() < 1e-3
    assert list(segmenter.masks(IMAGE, CORNERS[:0])) == []


def test_sam_is_what_its_processor_and_model_give_together(models):
    segmenter = load_segmenter(models["sam"])
    inputs = segmenter.processor(IMAGE, input_boxes=[CORNERS.tolist()], return_tensors="pt")
    with torch.inference_mode():
        outputs = segmenter.model(**inputs, multimask_output=False)
    sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
    expected = segmenter.processor.image_processor.post_process_masks(outputs.pred_masks, *sizes)[0][:, 0].numpy()
    assert (np.stack(list(segmenter.masks(IMAGE, CORNERS))) != expected).mean() < 1e-3


def test_sam2_gets_the_pixels_and_boxes_that_its_processor_would_give(models):
    segmenter = load_segmenter(models["sam2"])
    # SAM's processor, which needs no torchvision, does the same to a square image, but rounds it to bytes in between.
    square = np.random.default_rng(1).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    reference = transformers.SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    expected = reference(square, return_tensors="pt")["pixel_values"]
    assert (segmenter._pixels(square) - expected).abs().max() < 1.01 / 255 / 0.224
    # 80 x 45 pixels are stretched to 64 x 64.
    boxes = torch.tensor([[4.0, 5 * 64 / 45, 32, 30 * 64 / 45]])[None]
    with torch.inference_mode():
        outputs = segmenter.model(pixel_values=segmenter._pixels(IMAGE), input_boxes=boxes, multimask_output=False)
    logits = torch.nn.functional.interpolate(outputs.pred_masks[0], (45, 80), mode="bilinear", align_corners=False)
    (mask,) = segmenter.masks(IMAGE, CORNERS[:1])
    assert (mask != (logits[0, 0] > 0).numpy()).mean() < 1e-3


def test_another_kind_of_model_is_refused(models):
    with pytest.raises(ValueError, match="grounding-dino model; needed is SAM"):
        load_segmenter(models["dino"])


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_an_image_is_labelled(models, kind):
    classes = taxonomy.load("occ3d_nuscenes")
    wanted = {"traffic_cone": ["traffic cone"], "driveable_surface": ["road"], "car": ["car"], "unlabelled": ["sky"]}
    labeller = GroundedSam(models["dino"], models[kind], parse_prompts(wanted, classes), threshold=0.0)
    labels, confidence = labeller.label(IMAGE)
    assert labels.shape == confidence.shape == (45, 80) and labels.dtype == confidence.dtype == np.uint8
    assert set(np.unique(labels).tolist()) <= {8, 11, 4, 255} and (labels != 255).any()
    assert ((confidence == 0) == (labels == 255)).all()


def test_the_highest_score_wins_against_a_loop():
    rng = np.random.default_rng(0)
    masks, classes = rng.random((9, 12, 15)) < 0.3, np.array([3, 4, 255, 3, 1, 9, 2, 7, 255], np.uint8)
    scores = rng.permutation(np.linspace(0.31, 0.87, 9)).astype(np.float32)
    labels, confidence = paint_masks(iter(masks), classes, scores, (12, 15))
    for v, u in np.ndindex(12, 15):
        covering = [(scores[n], classes[n]) for n in range(9) if masks[n, v, u]]
        score, label = max(covering, default=(0, 255))
        assert labels[v, u] == label
        assert confidence[v, u] == (0 if label == 255 else round(float(score) * 255))
    labels, confidence = paint_masks(iter(()), classes[:0], scores[:0], (2, 3))
    assert (labels == 255).all() and not confidence.any()


@pytest.mark.parametrize("name", ["semantickitti", "occ3d_nuscenes", "sscbench_kitti360"])
def test_every_taxonomy_has_prompts_for_nearly_all_classes(name):
    classes = taxonomy.load(name)
    prompts = load_prompts(classes)
    missing = set(range(classes.num_classes)) - set(prompts.classes) - {classes.free}
    assert missing <= ({classes.id("others")} if name == "occ3d_nuscenes" else set())
    assert prompts.phrases[prompts.classes.index(classes.id("truck"))] == "truck"
    assert len(set(prompts.phrases)) == len(prompts.phrases)


def test_bad_prompts_are_refused():
    classes = taxonomy.load("semantickitti")
    for bad in ({"car": ["Car"]}, {"car": ["car. van"]}, {"car": ["van"], "truck": ["van"]}, {"car": [""]}):
        with pytest.raises(ValueError, match="phrase"):
            parse_prompts(bad, classes)
    with pytest.raises(KeyError, match="no class 'lorry'"):
        parse_prompts({"lorry": ["lorry"]}, classes)
