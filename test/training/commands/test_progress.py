# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal of 80 columns and in a pipe."""

import io
import re

import pytest
from occle_train.commands import progress
from occle_train.commands.progress import LineProgress, TrainingProgress, duration
from rich.console import Console

LOSSES = {"semantic": 1.25, "occupancy": 0.5, "pseudo": 0.125, "total": 1.875}


def shown(console):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_a_bar_of_80_columns_shows_step_time_and_loss():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with TrainingProgress({"training": 4000}, console) as bar:
        for step in range(134):
            bar.update("training", step, LOSSES)
        assert bar.steps == 134
    lines = shown(console).replace("\r", "\n").splitlines()
    (last,) = [line for line in lines if "134/4000" in line][-1:]
    assert "loss 1.875" in last and re.search(r"\d+:\d\d", last) and len(last.rstrip()) <= 80 and "…" not in last


def test_a_pipe_gets_a_line_every_so_often_and_the_last_step(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=80)
    with TrainingProgress({"semantic": 30, "fusion": 10}, console, interval=20) as lines:
        for phase, steps in (("semantic", 30), ("fusion", 10)):
            for step in range(steps):
                now[0] += 5
                lines.update(phase, step, LOSSES)
    said = shown(console).splitlines()
    assert [re.match(r"(\w+: step \d+ of \d+)", line)[1] for line in said] == [
        *(f"semantic: step {n} of 30" for n in (1, 5, 9, 13, 17, 21, 25, 29, 30)),
        *(f"fusion: step {n} of 10" for n in (1, 5, 9, 10)),
    ]
    assert said[1].endswith("semantic 1.250, occupancy 0.500, pseudo 0.125, total 1.875, about 2 min left")  # 25 steps of 5 s


def test_other_commands_print_lines_in_a_pipe_too(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=80)
    with LineProgress(console, interval=20) as lines:
        task = lines.add_task("simulating", total=8)
        for _ in range(8):
            now[0] += 10
            lines.advance(task)
    assert shown(console).splitlines() == [
        "simulating: 0 of 8", "simulating: 2 of 8, about 60 s left", "simulating: 4 of 8, about 40 s left",
        "simulating: 6 of 8, about 20 s left", "simulating: 8 of 8",
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), [(4, "4 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
