# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The MinkOcc paper's tables of scores: which classes a mean is over, and what Table II's rows hold."""

import json
import math
import sys

import pytest
from occle_train.evaluation import markdown_tables
from occle_train.evaluation.markdown_tables import defined_miou

from occle_core import taxonomy

OCC3D = taxonomy.load("occ3d_nuscenes")
TABLE_1 = {  # MinkOcc, self-supervised: 13.23 % over the classes but others and other flat
    "barrier": 0.0, "bicycle": 0.0, "bus": 7.92, "car": 13.83, "construction_vehicle": 0.0, "motorcycle": 0.0, "pedestrian": 0.0,
    "traffic_cone": 0.0, "trailer": 0.0, "truck": 5.75, "driveable_surface": 70.27, "sidewalk": 17.60, "terrain": 20.08,
    "manmade": 35.97, "vegetation": 26.98,
}  # fmt: skip


def test_the_papers_self_supervised_mean_is_over_fifteen_classes():
    per_class = [TABLE_1.get(name, 77.0) / 100 for name in OCC3D.names[:17]]
    assert round(100 * defined_miou(per_class, OCC3D), 2) == pytest.approx(13.23, abs=0.005)
    absent = [None if name == "bus" else value for name, value in zip(OCC3D.names, per_class)]
    assert 100 * defined_miou(absent, OCC3D) == pytest.approx((sum(TABLE_1.values()) - 7.92) / 14)
    assert math.isnan(defined_miou([math.nan] * 17, OCC3D))


def test_tables_one_and_two_of_score_files(tmp_path, monkeypatch, capsys):
    scores = {"bundle": "a", "voxel_size": 0.2, "alpha": 0.1, "memory_gb": 1.654, "rayiou": {"rayiou": 0.246}} | {
        "occ3d": {"miou": 0.3343, "iou": 0.5, "per_class": [0.5] * 17},
        "milliseconds": {"network": 44.7},
    }
    (tmp_path / "a.json").write_text(json.dumps(scores))
    monkeypatch.setattr(sys, "argv", ["markdown_tables", str(tmp_path / "a.json")])
    assert markdown_tables.main() == 0
    text = capsys.readouterr().out
    assert "| a | 24.60 | 33.43 | 50.00 | 50.00 | 45 |" in text and "| 0.2 | 10 | 45 | 33.43 | 24.60 | 1.65 |" in text
    (tmp_path / "a.json").write_text(json.dumps({**scores, "alpha": None}))
    assert markdown_tables.main() == 0 and "voxel size" not in capsys.readouterr().out
