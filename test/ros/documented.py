# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rows of the tables in docs/reference/reliability.md, which every kind of bad input that is tested must have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "reliability.md"
Test = TypeVar("Test", bound=Callable[..., None])


def rows_of(kinds: list[str]) -> Callable[[str], Callable[[Test], Test]]:
    """A decorator for the test of one kind of bad input: its name joins `kinds`, for `assert_rows`."""

    def named(kind: str) -> Callable[[Test], Test]:
        kinds.append(kind)
        return lambda test: test

    return named


def assert_rows(section: str, kinds: Iterable[str]) -> None:
    """Fail for kinds without a row in a section ("## TITLE" or "### TITLE") of the page."""
    found = re.search(rf"^##+ {re.escape(section)}$(.*?)(?=^#{{1,3}} |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{PAGE} has no section {section!r}"
    rows = re.findall(r"^\| ([^|]+?) +\|", found[1], re.MULTILINE)
    missing = [kind for kind in kinds if kind not in rows]
    assert not missing, f"{PAGE}, {section}: no row for {missing}"
