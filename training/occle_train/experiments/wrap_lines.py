# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Markdown with lines of at most 120 characters, for the reports that experiments write."""

from __future__ import annotations

import re

WIDTH = 120
_ITEM = re.compile(r"\s*([-*]|\d+\.) ")
_AS_IT_IS = re.compile(r"\s*(\||#|<|!\[|```)")  # tables, headings, HTML, pictures, code
_STARTS_A_BLOCK = re.compile(r"([-+*|#>]|\d+[.)])$")


def wrap_lines(text: str, width: int = WIDTH) -> str:
    """Markdown whose paragraphs and list items with a longer line are wrapped; tables, headings and code stay as they are."""
    lines: list[str] = []
    block: list[str] = []
    in_code = False
    for line in [*text.split("\n"), ""]:
        if line.lstrip().startswith("```"):
            in_code = not in_code
        is_code = in_code or (line.startswith("    ") and not block)
        if block and (is_code or not line.strip() or _ITEM.match(line) or _AS_IT_IS.match(line)):
            lines += _wrapped(block, width)
            block = []
        if is_code or not line.strip() or _AS_IT_IS.match(line):
            lines.append(line)
        else:
            block.append(line)
    return "\n".join(lines[:-1])


def _wrapped(block: list[str], width: int) -> list[str]:
    if all(len(line) <= width for line in block):
        return block
    item = _ITEM.match(block[0])
    first = item[0] if item else ""
    units: list[str] = []
    for word in " ".join(block)[len(first) :].split():
        # A line that began with a word such as "-" would be a list item: it stays with the word before it.
        if units and _STARTS_A_BLOCK.match(word):
            units[-1] += f" {word}"
        else:
            units.append(word)
    lines = [first + units[0]]
    for unit in units[1:]:
        if len(lines[-1]) + 1 + len(unit) <= width:
            lines[-1] += f" {unit}"
        else:
            lines.append(" " * len(first) + unit)
    return lines
