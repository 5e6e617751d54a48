# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import math
from pathlib import Path

from occle_ros.pipeline.statistics import KEPT_FRAMES, Statistics


def test_the_table_has_a_row_for_each_frame(tmp_path: Path) -> None:
    statistics = Statistics()
    statistics.frame_done(1.0, math.nan, {"convert": 1.5}, 7)
    statistics.frame_done(2.0, 20.0, {"convert": 2.5, "publish": 0.25}, 8)
    assert statistics.write_table(tmp_path / "new" / "times.csv") == 2
    rows = list(csv.DictReader((tmp_path / "new" / "times.csv").read_text().splitlines()))
    assert rows == [
        {"stamp_ns": "7", "latency_ms": "", "convert_ms": "1.500", "publish_ms": ""},
        {"stamp_ns": "8", "latency_ms": "20.000", "convert_ms": "2.500", "publish_ms": "0.250"},
    ]


def test_stages_stay_in_their_order() -> None:
    statistics = Statistics()
    stages = [f"stage{number}" for number in range(20)]
    statistics.frame_done(1.0, 5.0, dict.fromkeys(stages, 1.0))
    assert list(statistics.as_dict()["stages_ms"]) == stages


def test_the_newest_frames_are_kept_in_their_order() -> None:
    statistics = Statistics()
    for number in range(KEPT_FRAMES + 3):
        statistics.frame_done(float(number), float(number), {"convert": float(number)}, number)
    kept = statistics.as_dict()
    assert kept["latency_ms"] == kept["stages_ms"]["convert"] == [float(n) for n in range(3, KEPT_FRAMES + 3)]
    assert kept["rate_hz"] == 1.0
