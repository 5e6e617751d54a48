# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""One simulated recording of an odd rig, for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from occle_train.streets.drive import Drive
from occle_train.streets.sensors.described_rig import scaled_rig
from occle_train.streets.writing.bag import write_bag

from occle_core.rig import read_rig, write_rig

OWN = Path(__file__).resolve().parents[3] / "examples" / "own_rig" / "rig.yaml"
SCALE = 0.3


@pytest.fixture(scope="session")
def recording(tmp_path_factory) -> Path:
    """A folder with bag/ (8 scans of two LiDARs, three cameras, 0.8 s), rig.yaml and classes.yaml."""
    folder = tmp_path_factory.mktemp("recording")
    rig = read_rig(OWN)
    beams = rig.lead.beams.model_copy(update={"azimuth_step": 0.8})
    lidars = {**rig.lidars, "top": rig.lead.model_copy(update={"beams": beams})}
    rig = rig.model_copy(update={"lidars": lidars})
    write_bag(folder / "bag", Drive(rig, 5, 1, 8, SCALE), rig, SCALE)
    write_rig(scaled_rig(rig, SCALE), folder / "rig.yaml")
    (folder / "classes.yaml").write_text((OWN.parent / "classes.yaml").read_text())
    return folder
