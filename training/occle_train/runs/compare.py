# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Runs beside each other: a line per run, and what two of them differ in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from occle_train.loop.curves import read_rows
from occle_train.loop.run_key import flatten
from occle_train.loop.training_log import LOG
from occle_train.runs.folder import SCORES, read_record


def summary(run: Path) -> tuple[str, ...]:
    """Name, size, steps done and in all, last loss, IoU, mIoU, what was scored, and date of a run."""
    record = read_record(run)
    logs = [run / LOG] if (run / LOG).exists() else sorted(run.glob(f"*/{LOG}"), key=lambda file: file.stat().st_mtime)
    rows = [read_rows(log) for log in logs]
    done = sum(map(len, rows))
    steps = record.settings.get("steps")
    if steps is not None:
        steps *= record.settings.get("rounds", 1)
    phases = record.settings.get("recipe", {}) or {}
    total = steps or sum((phases.get("phase_steps") or {}).values()) or "?"
    last = next((float(found[-1]["total"]) for found in reversed(rows) if found), None)
    scores = _scores(run)
    found = scores.get("headline", {})
    size = record.options.size or record.settings.get("size") or "small"
    return (
        run.name,
        str(size),
        f"{done} of {total}",
        "" if last is None else f"{last:.3f}",
        _percent(found.get("iou")),
        _percent(found.get("miou")),
        str(scores.get("on", "")),
        str(record.environment.get("date", ""))[:10],
    )


def differences(one: Path, other: Path) -> list[tuple[str, str, str]]:
    """Options and settings that two runs differ in: name and both values."""
    sides = []
    for run in (one, other):
        record = read_record(run)
        options = record.options.model_dump(mode="json", exclude={"bundle", "device", "threads", "processes"})
        sides.append(flatten({"command": record.command, **options, "settings": record.settings}))
    names = list({**sides[0], **sides[1]})
    return [
        (name.removeprefix("settings."), str(sides[0].get(name, "-")), str(sides[1].get(name, "-")))
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    ]


def score_rows(one: Path, other: Path) -> Iterator[tuple[str, str, str]]:
    """Steps, loss and scores of two runs."""
    lines = summary(one), summary(other)
    for place, name in ((2, "steps"), (3, "last loss"), (4, "IoU, %"), (5, "mIoU, %"), (6, "scored on")):
        yield name, lines[0][place] or "-", lines[1][place] or "-"


def _scores(run: Path) -> dict[str, Any]:
    file = run / SCORES
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
