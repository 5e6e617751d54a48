# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train list`, `compare` and `bundle`: runs beside each other, and bundles of what they have learned so far."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from occle_core.bundle import save_bundle
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_train.commands.common import console, path_option, user_path
from occle_train.runs.compare import differences, score_rows, summary
from occle_train.runs.folder import RUNS, find_runs
from occle_train.runs.weights import read_weights


def list_runs(
    folder: Annotated[Path, typer.Argument(help="folder of runs", parser=user_path, metavar="PATH")] = RUNS,
) -> None:
    """List the runs of a folder, with their steps, losses and scores.

    Example: occle-train list
    """
    found = find_runs(folder)
    if not found:
        raise ValueError(f"{folder} holds no runs; occle-train fit makes one")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("run", "size", "steps", "loss", "IoU, %", "mIoU, %", "on", "date"):
        table.add_column(column, no_wrap=column != "run", overflow="fold")
    for run in found:
        table.add_row(*summary(run))
    console.print(table)


def compare(
    one: Annotated[Path, typer.Argument(help="a run's folder", parser=user_path, metavar="A")],
    other: Annotated[Path, typer.Argument(help="another run's folder", parser=user_path, metavar="B")],
) -> None:
    """Show what two runs differ in, settings first, and their scores side by side.

    Example: occle-train compare runs/minkocc-001 runs/minkocc-002
    """
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("", one.name, other.name):
        table.add_column(column, overflow="fold")
    for row in [*differences(one, other), *score_rows(one, other)]:
        table.add_row(*row)
    console.print(table)


def write_bundle(
    source: Annotated[Path, typer.Argument(help="a run's folder, or a checkpoint.pt", parser=user_path, metavar="PATH")],
    out: Annotated[Path, path_option("bundle to write")],
    raw: Annotated[bool, typer.Option(help="the weights of the last step, instead of their running average")] = False,
) -> None:
    """Write the bundle of a run or a checkpoint, finished or not, while it trains or later.

    Example: occle-train bundle runs/minkocc-001 --out out/bundle
    """
    spec, network, step = read_weights(source, raw)
    save_bundle(out, spec, network)
    console.print(f"wrote {out}: the {'weights' if raw else 'averaged weights'} of {step} steps", highlight=False, soft_wrap=True)
    if isinstance(spec.network, MinkOccConfig) and spec.provenance["fit"].get("free_bias", True):
        console.print(
            "note: without the bias of the free class, which is measured at the end of a run or when it is stopped; its last/ and "
            "best/ have it",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
