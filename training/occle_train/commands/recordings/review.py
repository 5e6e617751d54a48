# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_train.commands.common import console, path_option, progress_bar, split_names
from occle_train.data.samples import open_all
from occle_train.pseudo_labels.cell_folder import CellFolder
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.review.page import write_page
from occle_train.runs.checks import check_classes


def review(
    data: Annotated[Path, path_option("recordings")],
    labels: Annotated[Path, path_option("their label images (occle-train label --out)")],
    cells: Annotated[Path, path_option("their 3D labels (occle-train label --cells)")],
    out: Annotated[Path, path_option("HTML page to write; pictures are inside it")],
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
) -> None:
    """Write a page by which a person can judge pseudo-labels before a training.

    Example: occle-train review --data recordings --labels out/labels --cells out/cells --out out/review.html
    """
    datasets = open_all(data, split_names(sequences))
    check_classes({data: datasets})
    with progress_bar() as bar:
        task = bar.add_task("drawing", total=sum(map(len, datasets)))
        count = write_page(out, datasets, LabelFolder(labels, datasets[0].taxonomy), CellFolder(cells), lambda: bar.advance(task))
    console.print(f"wrote {out}: {count} frames, {out.stat().st_size / 2**20:.1f} MB", highlight=False, soft_wrap=True)
