# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Label images by a network that knows real streets: `python -m benchmark.training.espnet_labels --edgenets CLONE --weights W`.

ESPNetv2 (Mehta et al.) labels the images of a data set; its code is imported from a clone of github.com/sacmehta/EdgeNets, its
Cityscapes weights lie there under model/segmentation/model_zoo/espnetv2. The classes are brought to the data set's by OccLE's table
B.1, without an open-vocabulary model, so that those which Cityscapes lacks are not labelled. No label file is read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from occle_train.data.samples import open_all
from occle_train.occle.alignment import load_alignment
from occle_train.occle.labeller import AlignedLabeller
from occle_train.pseudo_labels.label_folder import Labels, write_missing
from occle_train.pseudo_labels.segment import MEAN, STD
from torch import Tensor, nn

from benchmark.machine import real_data
from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.files import read_image
from occle_core.taxonomy import IGNORE, Taxonomy

CITYSCAPES = {
    "road": "road",
    "sidewalk": "sidewalk_pavement",
    "building": "building",
    "wall": "wall",
    "fence": "fence",
    "pole": "pole",
    "traffic light": "traffic_light",
    "traffic sign": "traffic_sign",
    "vegetation": "vegetation",
    "terrain": "terrain",
    "sky": None,
    "person": "person",
    "rider": "rider_other",
    "car": "car",
    "truck": "truck",
    "bus": "bus",
    "train": "train",
    "motorcycle": "motorcycle",
    "bicycle": "bicycle",
    "background": None,
}
"""ESPNetv2's classes in their order, and their names in MSeg's universal taxonomy, which OccLE's Table B.1 aligns."""
INPUT = (1216, 352)
"""Width and height that images are brought to for ESPNetv2."""


def main() -> int:
    """Label the images."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.espnet_labels", description=__doc__)
    parser.add_argument("--edgenets", type=Path, required=True, help="clone of github.com/sacmehta/EdgeNets")
    parser.add_argument("--weights", type=Path, required=True, help="espnetv2_s_2.0_city_1024x512.pth")
    parser.add_argument("--data", type=Path, default=real_data() / "semantickitti" / "dataset", help="default: OCCLE_DATA's")
    parser.add_argument("--sequences", default="00,05,07")
    parser.add_argument("--out", type=Path, default=Path("out/espnet_labels"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    datasets = open_all(given.data, given.sequences.split(","))
    classes = datasets[0].taxonomy
    labeller, source = espnet_labeller(given.edgenets, given.weights, classes)
    written, skipped = write_missing(given.out, datasets, labeller, classes, source)
    print(f"{written} images labelled, {skipped} had labels, in {given.out}")
    return 0


def espnet_labeller(edgenets: Path, weights: Path, classes: Taxonomy) -> tuple[AlignedLabeller, dict[str, str]]:
    """ESPNetv2 in a taxonomy's classes, and what a manifest says of it."""
    alignment = load_alignment(classes)
    labeller = AlignedLabeller(EspNet(edgenets, weights, alignment.names), None, alignment)
    return labeller, {"specific": f"ESPNetv2, {weights.name}", "alignment": classes.name}


class EspNet:
    """ESPNetv2 of a clone of EdgeNets, as OccLE's dataset-specific segmenter.

    Args:
        clone: the repository.
        weights: of the Cityscapes model of scale 2.
        names: universal id -> its name.
    """

    def __init__(self, clone: Path, weights: Path, names: Mapping[int, str]) -> None:
        sys.path.insert(0, str(clone))
        from model.segmentation.espnetv2 import ESPNetv2Segmentation  # type: ignore[import-not-found]

        settings = argparse.Namespace(s=2.0, channels=3, num_classes=1000)
        self.model: nn.Module = ESPNetv2Segmentation(settings, classes=len(CITYSCAPES), dataset="city")
        self.model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.model.eval()
        ids = {name: number for number, name in names.items()}
        self.table = np.array([IGNORE if name is None else ids[name] for name in CITYSCAPES.values()], np.uint8)

    @torch.inference_mode()
    def __call__(self, dataset: Dataset, i: int, camera: str) -> Labels:
        """Universal ids and confidences of a data set's image."""
        file = dataset.image_file(i, camera)
        if file is None:
            raise DatasetError(f"{dataset.kind} {dataset.name} has no camera {camera}")
        image = read_image(file)
        pixels = torch.from_numpy(cv2.resize(image, INPUT, interpolation=cv2.INTER_AREA)).permute(2, 0, 1)[None] / 255
        logits: Tensor = self.model((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        logits = nn.functional.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
        confidence, label = logits.softmax(1)[0].max(0)
        universal = self.table[label.numpy()]
        return universal, np.where(universal == IGNORE, 0, np.round(255 * confidence.numpy())).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
