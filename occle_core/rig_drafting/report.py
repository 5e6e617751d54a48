# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What `occle rig` writes and says: a drafted rig file, or the check of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from occle_core.console import shell_quote
from occle_core.output_folder import output_exists, output_exists_error
from occle_core.rig import write_rig
from occle_core.rig_drafting.check import check_rig_on_bag
from occle_core.rig_drafting.draft import draft_rig


def draft(bag: Path, out: Path, replace: bool) -> list[str]:
    """Write a drafted rig file; returns what was found and what is left to answer, a line each.

    Raises:
        OutputError: `out` exists. BagError: the bag cannot be used.
    """
    if output_exists(out) and not replace:
        raise output_exists_error(out)
    found = draft_rig(bag)
    questions = [f"TODO {question}" for question in found.questions]
    write_rig(found.rig, out, [f"Drafted from {bag.name} by `occle rig`. Fields: docs/reference/rig.md.", *questions])
    last = f"{out}: answer the questions in it, then `occle rig check {shell_quote(out)} {shell_quote(bag)}`"
    return [*found.facts, *(f"question: {question}" for question in found.questions), last]


def check(rig: Path, bag: Path, out: Path, on_progress: Callable[[int, int], None]) -> tuple[list[str], bool]:
    """Check a rig file; returns a line for each note and camera, and whether no camera is off.

    Raises:
        DatasetError: the rig and the bag do not fit. OutputError: `out` exists.
    """
    notes, scores = check_rig_on_bag(rig, bag, out, on_progress)
    lines = [*(f"note: {note}" for note in notes), *(score.text for score in scores), f"pictures in {out}"]
    return lines, all(score.verdict != "off" for score in scores)
