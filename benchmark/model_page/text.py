# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page of the shipped networks as Markdown. A part of `benchmark.model_page`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from occle_train.evaluation.markdown_tables import markdown, percent
from occle_train.experiments.wrap_lines import wrap_lines
from occle_train.runs.validation import headline

from benchmark.model_page.models import VALIDATION, Model


def page_of(models: Sequence[Model], where: str) -> str:
    """The page, in Markdown.

    Args:
        models: what was measured.
        where: date, machine and versions.
    """
    blocks = [
        f"""# The shipped networks

Written by `python -m benchmark.model_page` on {where}.

All weights have seen simulated streets alone. [Measurements](performance.md) say how they were trained, what did not
help, and how fast the live node is; [shipped bundles](../how_to/shipped_bundles.md) how to train better ones.

## At a glance

{overview(models)}

IoU of occupied against free, and mIoU over the classes that the truth holds, percent. *No images*: the same frames with
every camera left out (`occle-train evaluate --degrade images`), which OccLE refuses. Columns with numbers are
SemanticKITTI's sequences, ten real frames of each. Their truth is accumulated from the ten labelled scans (`--truth
accumulated`); cells that no ray reached do not count. A class that the truth does not hold has 0.00. 08 was never used
to choose anything."""
    ]
    if any(model.times for model in models):
        blocks.append(f"""## Time of a frame, from sensors to labels

{latency_table(models)}

p50 / p95 in milliseconds, one frame at a time, simulated drives at the sensors' full resolution (`python -m
benchmark.engines.networks` has memory, throughput and stages too).""")
        blocks += sorted({f"- {reason}" for model in models for reason in refusals(model)})
    return wrap_lines("\n\n".join([*blocks, *(section(model) for model in models)]) + "\n")


def overview(models: Sequence[Model]) -> str:
    """A row per bundle."""
    columns = list(dict.fromkeys(column for model in models for column in model.scores))
    rows = []
    for model in models:
        cells = " x ".join(map(str, model.spec.grid.shape)) + f" of {model.spec.grid.resolution:g} m"
        size = [f"{model.parameters / 1e6:.2f}", f"{model.size / 1e6:.1f}", cells]
        scores = [_iou_and_miou(model.scores.get(column)) for column in columns]
        rows.append([f"[{model.name}](#{model.name})", model.spec.network.kind, *size, *scores])
    return markdown(["bundle", "network", "parameters, M", "MB", "cells", *columns], rows)


def latency_table(models: Sequence[Model]) -> str:
    """A row per bundle, a column per engine."""
    engines = list(models[0].times)
    rows = [
        [model.name, *("-" if isinstance(time, str) else f"{time[0]:.0f} / {time[1]:.0f}" for time in model.times.values())]
        for model in models
    ]
    return markdown(["bundle", *engines], rows)


def refusals(model: Model) -> list[str]:
    """Why engines do not run a bundle."""
    return [f"{engine}, {model.name}: {time}." for engine, time in model.times.items() if isinstance(time, str)]


def section(model: Model) -> str:
    """A bundle by itself: its picture, frames, scores of every class, and what its confidences are worth."""
    columns = {title: found.get("occ3d") or found["grid"] for title, found in model.scores.items()}
    rows = [["occupied against free", *(percent(scores["iou"]) for scores in columns.values())]]
    for name in ("precision", "recall"):
        if all(name in scores for scores in columns.values()):
            rows.append([name, *(percent(scores[name]) for scores in columns.values())])
    rows.append(["mIoU over present classes", *(percent(s.get("miou_present", s["miou"])) for s in columns.values())])
    if all("rayiou" in found for found in model.scores.values()):
        rows.append(["RayIoU", *(percent(found["rayiou"]["rayiou"]) for found in model.scores.values())])
    solid = [name for number, name in enumerate(model.taxonomy.names) if number != model.taxonomy.free]
    rows += [[name, *(percent(s["per_class"][number]) for s in columns.values())] for number, name in enumerate(solid)]
    masked = " under the camera mask (Occ3D)" if any("occ3d" in found for found in model.scores.values()) else ""
    drives = VALIDATION[model.rig]
    every = f", with `evaluate --every {drives.score_every}`" if drives.score_every > 1 else ""
    return f"""## {model.name}

![Prediction and truth of a simulated validation frame, in the image and from behind](images/model_{model.name}.jpg)

`config/bundles/{model.name}`, {model.bundle_id}. {calibration(model.spec.provenance.get("calibration"))} Simulated
frames: {model.scores["simulated"]["frames"]} of these drives{every}.

```
{drives.command(model.rig)}
```

{markdown([f"IoU, %{masked}", *columns], rows)}"""


def calibration(note: dict[str, Any] | None) -> str:
    """How far the bundle's probabilities are from what they say, in a sentence."""
    if note is None:
        return "Its confidences are not calibrated (`occle-train calibrate` does it)."
    errors = note["expected_calibration_error"]
    before, after = ({key: f"{100 * value:.1f}" for key, value in errors[when].items()} for when in ("before", "after"))
    return (
        "Its confidences are calibrated on held-out simulated drives, expected calibration error before and after: of the class "
        f"{before['class']} and {after['class']} %, of occupancy {before['occupied']} and {after['occupied']} % in cells called "
        f"occupied, {before['occupied_all']} and {after['occupied_all']} % in all known cells."
    )


def _iou_and_miou(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return "-"
    found = headline(scores)
    return f"{100 * found['iou']:.1f} / {100 * found['miou']:.1f}"
