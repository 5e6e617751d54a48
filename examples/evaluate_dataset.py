# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""IoU and mIoU of a bundle on a data set with voxel labels.

    python examples/evaluate_dataset.py out/validation
    python examples/evaluate_dataset.py dataset --bundle out/bundle --every 10

`occle-train evaluate` does the same and more: other grids, RayIoU, a table of all classes, engines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from occle_train.evaluation.evaluate import evaluate

from occle_core.datasets import list_scenes, open_dataset
from occle_core.predictor import Predictor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path, help="root of a data set in the layout of SemanticKITTI, with voxel labels")
parser.add_argument("--bundle", type=Path, default=Path("config/bundles/kitti"), help="folder of the network")
parser.add_argument("--every", type=int, default=1, help="score each n-th frame")
options = parser.parse_args()

predictor = Predictor.load(options.bundle)
classes = predictor.taxonomy
datasets = [open_dataset(options.data, scene=scene) for scene in list_scenes(options.data)]

# Every frame that has a truth is predicted and compared, hits and misses added up over all frames, as the benchmark does.
# "grid" is the network's own grid; "scan" is the plain voxelised scan, the least that a network has to beat.
found = evaluate(predictor, datasets, every=options.every)
scores, scan = found["grid"], found["scan"]

print(f"{predictor.bundle_id}: {found['frames']} frames of {options.data}")
print(f"IoU (occupied against free) {100 * scores['iou']:.2f} %, of the plain scan {100 * scan['iou']:.2f} %")
print(f"mIoU {100 * scores['miou']:.2f} %, over present classes {100 * scores['miou_present']:.2f} %")
for name, score in zip(classes.names[1:], scores["per_class"]):
    print(f"{100 * score:8.2f} %  {name}")
print("median ms per stage:", ", ".join(f"{stage} {time:.0f}" for stage, time in found["milliseconds"].items()))
