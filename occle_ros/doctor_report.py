"""The diagnosis of `occle doctor` as a table and a list of what to do."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from occle_ros.doctor import Diagnosis


def print_diagnosis(found: Diagnosis, console: Console) -> None:
    """A row per topic, then every finding with the setting or command that mends it."""
    table = Table(box=None, padding=(0, 1))
    for column in ("topic", "type", "from", "rate", "age", "offered", "content", "frame", "calibration"):
        table.add_column(column, no_wrap=column in ("topic", "rate", "age"), overflow="fold")
    bad = {finding.topic for finding in found.findings}
    for row in found.rows:
        rate = "none" if row.rate is None else f"{row.rate:.1f} Hz"
        cells = (row.topic, row.kind.removeprefix("sensor_msgs/msg/"), str(row.publishers), rate, _age(row.age), row.qos,
                 row.content, row.frame_id, row.calibration)  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells), style="red" if row.topic in bad else "green")
    console.print(table)
    console.print(Text(found.clock), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    for number, finding in enumerate(found.findings, 1):
        console.print(Text(f"{number}. {finding.topic}: {finding.problem.text}", style="bold"), soft_wrap=True)
        if finding.problem.mend:
            console.print(Text(f"   {finding.problem.mend}"), soft_wrap=True)
    console.print(Text(f"{len(found.findings)} problems" if found.findings else "all is well"))


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.0f} ms" if abs(seconds) < 10 else f"{seconds:.0f} s"
