# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The generated pages are in step with the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from occle_ros.config.flat_parameters import declared_parameters
from occle_ros.config.node_config import NodeConfig
from occle_ros.tools.doc_pages import PAGES, main

DOCS = Path(__file__).resolve().parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_what_the_configuration_says(name: str) -> None:
    """Mend with: python -m occle_ros.tools.doc_pages docs/reference"""
    assert (DOCS / name).read_text() == PAGES[name]()


def test_every_parameter_has_its_row(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "parameters.md").read_text()
    for parameter in declared_parameters(("cam2",), NodeConfig()):
        assert f"| `{parameter.name.replace('cameras.cam2.', 'cameras.<camera>.')}` |" in page
    assert "| `voxels.max_rate_hz` | `0.0` | 0 to 1000 | yes |" in page
    assert "| `threads` | `0` | 0 to 256 |  |" in page
    assert "cam2/" not in page


def test_usage() -> None:
    assert main([]) == 2
