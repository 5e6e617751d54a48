# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_train.commands.common import console, path_option, progress_bar, user_path
from occle_train.data.prepare import Thinning
from occle_train.data.prepare import prepare as prepare_recordings


def prepare(
    paths: Annotated[
        list[Path], typer.Argument(help="recordings, then the folder to write", parser=user_path, metavar="BAG... OUT")
    ],
    rig: Annotated[Path, path_option("rig file of the recordings; `occle rig BAG -o rig.yaml` drafts one", "--rig")],
    metres: Annotated[float, typer.Option(min=0, help="frames closer than this, and")] = 0.1,
    degrees: Annotated[float, typer.Option(min=0, help="turned by less than this, and")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0, help="within this time of the last are left out; 0: none is")] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Write recordings as synchronised, motion-compensated frames with poses (docs/reference/sequence_layout.md).

    An interrupted run is resumed.

    Example: occle-train prepare out/monday out/tuesday out/frames --rig rig.yaml
    """
    *bags, out = paths
    if not bags:
        raise ValueError("give the recordings, then the folder to write: occle-train prepare BAG... OUT --rig rig.yaml")
    with progress_bar() as bar:
        task = bar.add_task("preparing", total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = prepare_recordings(bags, out, rig, Thinning(metres, degrees, seconds), workers, on_progress)
    for sequence in found:
        console.print(f"{sequence.folder}: {sequence.frames} frames, {sequence.still} of a standing robot left out")
        for note in sequence.notes:
            console.print(f"note: {note}")
        for failure in sequence.failed:
            console.print(f"failed: {failure}")
    if not any(sequence.frames for sequence in found):
        raise ValueError(f"no frame could be prepared; {out} lists the reasons in frames.json")
