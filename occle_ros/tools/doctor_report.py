"""The diagnosis of `occle doctor`: each topic in some short lines, and a list of what to do."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from occle_ros.tools.doctor import Diagnosis
from occle_ros.tools.topic_listener import Row


def print_diagnosis(found: Diagnosis, console: Console) -> None:
    """What was seen of every topic, then every finding with its remedy.

    Nothing is folded: a pipe has 80 columns, and what is folded there cannot be searched.
    """
    bad = {finding.topic for finding in found.findings}
    for row in found.rows:
        for number, line in enumerate(_lines(row)):
            is_wrong = row.topic in bad
            mark = "" if number else ("!! " if is_wrong else "ok ")
            console.print(Text(mark + line, style="red" if is_wrong else "green"), soft_wrap=True)
    console.print(Text(found.clock), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for number, finding in enumerate(found.findings, 1):
        console.print(Text(f"{number}. {finding.topic}: {finding.problem.text}", style="bold"), soft_wrap=True)
        if finding.problem.mend:
            console.print(Text(f"   {finding.problem.mend}"), soft_wrap=True)
    console.print(Text(f"{len(found.findings)} problems" if found.findings else "all is well"))


def _lines(row: Row) -> Iterator[str]:
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
