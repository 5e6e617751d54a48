# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train calibrate`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from occle_core.bundle import read_spec, replace_spec
from occle_core.predictor import Predictor
from occle_train.commands.common import console, path_option, progress_bar, split_names
from occle_train.data.samples import listed_taxonomy, open_all
from occle_train.data.truth import TRUTHS, TruthName
from occle_train.evaluation.calibrate import count_cells
from occle_train.evaluation.evaluate import scored_frames


def calibrate(
    bundle: Annotated[Path, path_option("bundle folder; its bundle.yaml is rewritten")],
    data: Annotated[Path, path_option("data set that the network was not trained on, two sequences or more")],
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    truth: Annotated[TruthName, typer.Option(help="recorded voxels, or accumulated from labelled scans and poses")] = "recorded",
    every: Annotated[int, typer.Option(min=1, help="count each n-th frame that has a truth")] = 1,
    engine: Annotated[str, typer.Option(help="what runs the network, see occle-train export")] = "torch",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Calibrated probabilities for a bundle: fitted on every other sequence, measured on the rest.

    Example: occle-train calibrate --bundle config/bundles/kitti --data out/held_out
    """
    read_spec(bundle)  # before hours of counting: the name of a shipped bundle is no folder to write to
    predictor = Predictor.load(bundle, engine, "fp32", threads, console.print)
    plain = predictor.spec.model_copy(update={"calibration": None})
    predictor = Predictor(plain, predictor.engine, predictor.bundle_id)
    datasets = open_all(data, split_names(sequences), listed_taxonomy(plain))
    if len(datasets) < 2:
        raise ValueError(f"{data} holds one sequence; calibration is fitted on some and measured on others: give two or more")
    with progress_bar() as bar:
        total = sum(len(scored_frames(dataset, TRUTHS[truth], every)) for dataset in datasets)
        task = bar.add_task("counting", total=total)
        fitted, measured = (
            count_cells(predictor, datasets[part::2], TRUTHS[truth], every, lambda name, i: bar.advance(task)) for part in (0, 1)
        )
    found = fitted.fit()
    measured.require_cells(f"to measure on, in every second sequence ({', '.join(dataset.name for dataset in datasets[1::2])})")
    before, after = measured.errors(None), measured.errors(found)
    for name, text in (("class", "class"), ("occupied", "occupancy, cells called occupied"), ("occupied_all", "occupancy, all")):
        console.print(f"expected calibration error, {text}: {before[name]:.4f} before, {after[name]:.4f} after")
    note = {
        "data": f"{len(datasets[0::2])} sequences, measured on {len(datasets[1::2])} others",
        "expected_calibration_error": {
            "before": {name: round(value, 4) for name, value in before.items()},
            "after": {name: round(value, 4) for name, value in after.items()},
        },
        "date": date.today().isoformat(),
    }
    provenance = {**plain.provenance, "calibration": note}
    replace_spec(bundle, plain.model_copy(update={"calibration": found, "provenance": provenance}))
