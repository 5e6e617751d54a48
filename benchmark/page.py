# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Figures of a benchmark in a page: the block between its two marks is replaced."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from occle_core.atomic_file import atomic_write

END = "<!-- end of figures -->\n"


def add_write_option(parser: argparse.ArgumentParser) -> None:
    """Add `--write PAGE`, see `publish`."""
    parser.add_argument("--write", type=Path, help="page whose figures are replaced")


def publish(text: str, benchmark: str, page: Path | None) -> None:
    """Print the figures, and replace those of a page if there is one."""
    print(text)
    if page:
        replace_figures(page, benchmark, text)


def replace_figures(page: Path, benchmark: str, text: str) -> None:
    """Replace what stands between `<!-- figures: written by BENCHMARK -->` and the next end of figures.

    Raises:
        ValueError: the page has no such block.
    """
    begin = f"<!-- figures: written by {benchmark} -->\n"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{page} has no block of figures of {benchmark}")
    with atomic_write(page) as file:
        file.write_text(f"{before}{begin}\n{_wrapped(text).strip()}\n\n{END}{after}", "utf-8")


def _wrapped(text: str) -> str:
    """Lines of at most 120 characters, as all documents have; rows of tables stay."""
    lines = (line if line.startswith("|") else textwrap.fill(line, 120, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(lines)
