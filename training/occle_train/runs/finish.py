# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""End of a run: bundles, scores, curve, pictures, report, and what did not learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from occle_core import taxonomy
from occle_core.atomic_file import write_json
from occle_core.bundle import BundleSpec, load_bundle, save_bundle
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.predictor import Predictor
from occle_train.evaluation.evaluate import evaluate
from occle_train.loop.curves import draw_curve, read_rows
from occle_train.loop.training_log import STATE, TIMES
from occle_train.runs.folder import BEST, CURVE, LAST, REPORT, SCORES
from occle_train.runs.report import write_report
from occle_train.runs.validation import VALIDATION, Slice, Validator, draw_validation, headline

CHECKED_FRAMES = 16
"""Training frames on which a network must predict something, and that a run without validation is scored on."""


class DeadNetworkError(ValueError):
    """A trained network that predicts nothing."""


@dataclass
class Finish:
    """What the end of a run needs to know.

    Args:
        run: its folder.
        spec: of the network; its provenance is the bundle's.
        inputs: of some training frames.
        training: a slice of the training frames, scored where there is no validation.
        validator: None without a validation.
        logs: names and log.csv files, in order.
        remedy: what to do about a network that predicts nothing.
    """

    run: Path
    spec: BundleSpec
    inputs: Callable[[], Iterable[NetworkInputs]]
    training: Slice | None
    validator: Validator | None
    logs: dict[str, Path]
    remedy: str


def predicts_something(spec: BundleSpec, network: Network, inputs: Iterable[NetworkInputs]) -> bool:
    """Whether a network predicts an occupied cell on any of the frames; it is on the CPU."""
    free = taxonomy.load(spec.taxonomy).free
    with torch.inference_mode():
        return any(bool((network.label_grid(one, free)[0] != free).any()) for one in inputs)


def finish_run(end: Finish, network: Network, steps: int, bundle: Path | None) -> dict[str, Any] | None:
    """Write the last bundle, score the best one, draw and report.

    Args:
        end: see Finish.
        network: the trained network, as the bundle is to hold it.
        steps: that were trained, of the last phase.
        bundle: where the bundle is written as well.

    Returns:
        scores of `evaluate` of the best bundle, or of the last where there is no validation; None where nothing has a truth.

    Raises:
        DeadNetworkError: the network predicts nothing on its own training frames; no bundle is written.
    """
    draw_curves(end)
    if not predicts_something(end.spec, network, end.inputs()):
        raise DeadNetworkError(
            f"the trained network predicts no occupied cell on its own training frames, so no bundle was written; {end.remedy}"
        )
    save_bundle(end.run / LAST, end.spec, network)
    part, chosen = end.training, LAST
    scores: dict[str, Any] | None = None
    if end.validator is not None:
        scores, part = end.validator(steps, network), end.validator.part
        # There is no best one while no class of the validation was met.
        chosen = BEST if (end.run / BEST).is_dir() else LAST
    # Of the best bundle, read anew: its matrices are stored in half precision.
    predictor = Predictor.load(end.run / chosen)
    if part is not None:
        scores = evaluate(predictor, part.datasets, part.truth, part.every)
        on = "validation" if end.validator else "training"
        write_json(end.run / SCORES, {"bundle": chosen, "on": on, "headline": headline(scores), **scores})
        draw_validation(end.run, part, predictor)
        draw_curves(end)
    if bundle is not None:
        spec, best, _ = load_bundle(end.run / chosen)
        save_bundle(bundle, spec, best)
    write_report(end.run, end.run / REPORT, list(end.logs))
    return scores


def stop_run(end: Finish, network: Network, bundle: Path | None) -> None:
    """Write what a stopped run has: the bundle of its averaged weights, the curve and the report."""
    save_bundle(end.run / LAST, end.spec, network)
    if bundle is not None:
        save_bundle(bundle, end.spec, network)
    draw_curves(end)
    write_report(end.run, end.run / REPORT, list(end.logs))


def draw_curves(end: Finish) -> None:
    """Draw the curve of every log; the last one shows the validation."""
    names = [name for name, log in end.logs.items() if log.exists()]
    for name in names:
        scores = end.run / VALIDATION if name == names[-1] else None
        picture = end.run / CURVE if len(end.logs) == 1 else end.run / f"curve-{name}.png"
        draw_curve(end.logs[name], picture, f"{end.spec.name}, {name}" if len(end.logs) > 1 else end.spec.name, scores)


def silent_losses(log: Path, first: int = 0) -> list[str]:
    """Losses of a log.csv that were 0 in every step from `first` on: what they supervise learned nothing."""
    rows = read_rows(log)[first:] if log.exists() else []
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", *STATE, *TIMES)]
    return [name for name in names if all(float(row[name]) == 0 for row in rows)]
