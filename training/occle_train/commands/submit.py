# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_core.predictor import Predictor
from occle_train.commands.common import console, path_option, progress_bar, split_names
from occle_train.data.samples import open_all
from occle_train.evaluation.submission import TEST_SEQUENCES, missing_sequences, write_submission


def submit(
    bundle: Annotated[Path, path_option("bundle folder, or the name of a shipped one")],
    data: Annotated[Path, path_option("SemanticKITTI's root, with the test sequences' voxels/*.bin")],
    out: Annotated[Path, path_option("zip file to write")],
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; the test set's 11 to 21 without")] = "",
    engine: Annotated[str, typer.Option(help="what runs the network, see occle-train export")] = "torch",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Write the submission for SemanticKITTI's hidden test set of semantic scene completion.

    Example: occle-train submit --bundle out/occle_10 --data DATA --out out/submission.zip
    """
    predictor = Predictor.load(bundle, engine, precision, threads, console.print)
    datasets = open_all(data, split_names(sequences) or list(TEST_SEQUENCES))
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=None)
        count = write_submission(out, predictor, datasets, lambda name, i: bar.advance(task))
    console.print(f"{count} frames of {len(datasets)} sequences in {out}", highlight=False, soft_wrap=True)
    missing = missing_sequences(datasets)
    if missing:
        console.print(f"warning: the server wants all test sequences; missing: {', '.join(missing)}", highlight=False)
