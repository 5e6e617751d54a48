# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reports/map.md names every constant of the map with its default and meaning."""

from pathlib import Path

from occle_core.mapping import MapConfig

PAGE = Path(__file__).parents[3] / "docs" / "reports" / "map.md"


def test_the_page_lists_all_constants_as_they_are():
    page = PAGE.read_text("utf-8")
    for name, field in MapConfig.model_fields.items():
        assert f"| `{name}` | {field.default} | {field.description} |" in page
