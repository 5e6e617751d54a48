# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Text report of `occle doctor`: the state of each topic, then the problems with their remedies."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from occle_ros.tools.doctor import Diagnosis
from occle_ros.tools.topic_listener import TopicReport


def print_diagnosis(found: Diagnosis, console: Console) -> None:
    """Print the state of every topic, then every problem with its remedy.

    Without line breaks, which would make the output of a pipe hard to search.
    """
    bad = {problem.topic for problem in found.problems}
    for row in found.topics:
        for number, line in enumerate(_lines(row)):
            is_wrong = row.topic in bad
            mark = "" if number else ("!! " if is_wrong else "ok ")
            console.print(Text(mark + line, style="red" if is_wrong else "green"), soft_wrap=True)
    console.print(Text(found.clock), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for number, problem in enumerate(found.problems, 1):
        console.print(Text(f"{number}. {problem.topic}: {problem.problem.text}", style="bold"), soft_wrap=True)
        if problem.problem.remedy:
            console.print(Text(f"   {problem.problem.remedy}"), soft_wrap=True)
    console.print(Text(f"{len(found.problems)} problems" if found.problems else "no problems"))


def _lines(row: TopicReport) -> Iterator[str]:
    rate = "no message" if row.rate is None else f"{row.rate:.1f} Hz"
    yield ", ".join(filter(None, (f"{row.topic}: {rate}", _age(row.age))))
    if row.content:
        yield f"   {row.content}"
    publishers = f"{row.publishers} publisher{'s' if row.publishers != 1 else ''}"
    offered = f" ({row.qos})" if row.qos else ""
    yield f"   {row.kind.removeprefix('sensor_msgs/msg/')} from {publishers}{offered}"
    frame = f"frame {row.frame_id}" if row.frame_id else ""
    calibration = f"calibration {row.calibration}" if row.calibration else ""
    if frame or calibration:
        yield f"   {', '.join(filter(None, (frame, calibration)))}"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.0f} ms old" if abs(seconds) < 10 else f"{seconds:.0f} s old"
