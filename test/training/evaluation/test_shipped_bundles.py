# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Every bundle that ships says what it was trained on, and sees more of an unseen street than its scan does."""

from pathlib import Path

import pytest
from occle_train.evaluation.evaluate import evaluate
from occle_train.streets import simulate

from occle_core.bundle import load_bundle
from occle_core.datasets import open_dataset
from occle_core.predictor import Predictor

SHIPPED = sorted(folder.name for folder in (Path(__file__).parents[3] / "config/bundles").iterdir())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_bundle(name, tmp_path):
    spec, _, _ = load_bundle(Path(__file__).parents[3] / "config/bundles" / name)
    assert spec.provenance["data"]["real"] == "none" and spec.provenance["data"]["simulated"]
    assert spec.capacities and spec.typical and spec.calibration, "run occle-train export and calibrate"
    simulate(tmp_path, "nuscenes" if spec.network.num_cameras == 6 else "kitti", 1, 1, seed=777, scale=0.3, workers=1)
    scores = evaluate(Predictor.load(name, threads=1), [open_dataset(tmp_path)])
    assert scores["grid"]["iou"] > 1.5 * scores["scan"]["iou"]
    grid = scores["grid"]
    assert grid.get("miou_present", grid["miou"]) > 0.08  # Occ3D means over present classes anyway
