# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Applying a calibration, and what a bundle with one gives."""

import numpy as np
import pytest
from lively import save_untrained
from pydantic import ValidationError

from occle_core.bundle import load_bundle, read_spec, replace_spec, weights_digest
from occle_core.calibration import Calibration

CURVE = Calibration(confidence=(0.2, 0.6, 1.0), occupied=(0.5, 0.7, 0.99), correct=(0.1, 0.3, 0.9), free=0.03)


def test_curves_are_linear_between_knots_and_constant_beyond():
    right, full = CURVE.apply(np.array([0.1, 0.2, 0.4, 0.6, 0.8, 1.0], np.float16))
    np.testing.assert_allclose(full, [0.5, 0.5, 0.6, 0.7, 0.845, 0.99], atol=1e-3)
    np.testing.assert_allclose(right, [0.1, 0.1, 0.2, 0.3, 0.6, 0.9], atol=1e-3)
    assert right.dtype == full.dtype == np.float16


@pytest.mark.parametrize(
    "change", [{"occupied": (0.5, 0.7)}, {"confidence": (0.2, 0.2, 0.3)}, {"free": 1.5}, {"confidence": (0.2,)}]
)
def test_curves_that_make_no_sense_are_refused(change):
    with pytest.raises(ValidationError):
        Calibration(**(CURVE.model_dump() | change))


def test_a_bundle_keeps_its_calibration_and_its_engines(tmp_path):
    """A calibration changes no engine: what was built for the weights is still found."""
    save_untrained(tmp_path / "b")
    spec, network, plain_id = load_bundle(tmp_path / "b")
    before = weights_digest(spec, network)
    replace_spec(tmp_path / "b", spec.model_copy(update={"calibration": CURVE}))
    again, network, new_id = load_bundle(tmp_path / "b")
    assert again.calibration == CURVE and read_spec(tmp_path / "b") == again
    assert weights_digest(again, network) == before
    assert new_id != plain_id
