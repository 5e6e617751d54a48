# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rows of figures by section, written to a JSON file and a page of Markdown after each. A part of `benchmark.gpu`."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from occle_core.atomic_file import atomic_write, write_json
from occle_core.errors import EngineError

Row = dict[str, Any]


@dataclass
class Report:
    """Rows by section, written to gpu.json and gpu.md after each.

    Args:
        folder: where to.
        minutes: after which no further row is begun; each section has its share of the command's.
    """

    folder: Path
    minutes: float
    head: dict[str, str] = field(default_factory=dict)
    sections: dict[str, list[Row]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def out_of_time(self) -> bool:
        """True if no further row is begun."""
        return time.monotonic() - self.began > 60 * self.minutes

    def measure(self, section: str, name: Row, run: Callable[[], Row]) -> None:
        """Add a row; what fails is a row that says why."""
        began = time.monotonic()
        row = dict(name)
        if self.out_of_time:
            row["why"] = f"left out: {self.minutes:g} minutes are over"
        else:
            try:
                row |= run()
            except (EngineError, ImportError) as error:
                row["why"] = " ".join(str(error).split())[:200]
            except Exception as error:  # one row must not cost the others
                row["why"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                print(traceback.format_exc(), file=sys.stderr)
        row["seconds"] = round(time.monotonic() - began, 1)
        self.sections.setdefault(section, []).append(row)
        print(f"{section}: {', '.join(f'{key} {_shown(value)}' for key, value in row.items())}", flush=True)
        self.write()

    def write(self) -> None:
        """Both files."""
        write_json(self.folder / "gpu.json", {**self.head, **self.sections})
        with atomic_write(self.folder / "gpu.md") as file:
            file.write_text("\n".join(self._markdown()) + "\n", encoding="utf-8")

    def _markdown(self) -> Iterator[str]:
        yield "# GPU"
        for key, value in self.head.items():
            yield f"\n{key}: {value}"
        for section, rows in self.sections.items():
            names = list(dict.fromkeys(key for row in rows for key in row))
            yield f"\n## {section}\n"
            yield f"| {' | '.join(names)} |"
            yield f"|{'---|' * len(names)}"
            for row in rows:
                yield f"| {' | '.join(_shown(row.get(name, '')) for name in names)} |"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    return str(value).replace("|", "/")
