# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""docs/reference/reliability.md: the rows of "Data sets and training" name tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "reference" / "reliability.md"


def test_every_row_on_data_sets_and_training_names_its_test():
    section = PAGE.read_text("utf-8").split("### Data sets and training\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 30
    named = [re.search(r"`(test_\w+)` \|$", row) for row in rows]
    assert all(named), [row for row, found in zip(rows, named) if not found]
    defined = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.M)}
    assert {found[1] for found in named if found} <= defined
