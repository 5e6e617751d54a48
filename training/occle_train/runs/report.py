# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""report.html of a run: one file with curve, scores, pictures, configuration and environment."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

import yaml

from occle_core.atomic_file import atomic_write
from occle_core.bundle import read_spec
from occle_core.taxonomy import load as load_taxonomy
from occle_train.loop.curves import read_rows
from occle_train.runs.folder import BEST, CURVE, LAST, SCORES, RunRecord, read_record
from occle_train.runs.validation import VALIDATION

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #23262b; max-width: 1100px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #d5d8dc }
img { max-width: 100%; display: block; margin: .5em 0 } table { border-collapse: collapse }
td, th { padding: .2em .8em; border-bottom: 1px solid #e5e7ea; text-align: right }
td:first-child, th:first-child { text-align: left }
pre { background: #f5f6f8; padding: 1em; overflow-x: auto; font-size: 13px } .number { font-size: 1.5em; font-weight: 600 }
"""


def write_report(run: Path, file: Path, phases: list[str]) -> None:
    """Write the report of what a run's folder holds so far.

    Args:
        run: the folder.
        file: the page to write; pictures are inside it.
        phases: names of the run's logs, in order; one name for a run of one phase.
    """
    record = read_record(run)
    body = [f"<h1>{escape(run.name)}</h1>", _summary(run, record)]
    curves = [run / CURVE] if len(phases) == 1 else [run / f"curve-{name}.png" for name in phases]
    body += _section("Learning curve", [_image(curve) for curve in curves if curve.exists()])
    scores = json.loads((run / SCORES).read_text("utf-8")) if (run / SCORES).exists() else None
    if scores:
        body += _section(f"Scores on {_frames(scores)}", [_score_table(run, scores)])
    body += _section("Frames beside their truth", [_image(picture) for picture in sorted(run.glob("validation-*.jpg"))])
    if (run / VALIDATION).exists():
        body += _section("Validation during the training", [_rows_table(read_rows(run / VALIDATION))])
    body += _section("Configuration", [_yaml(record.settings)])
    options = record.options.model_dump(mode="json", exclude_none=True)
    body += _section("Options and environment", [_yaml({"command": record.command, **options}), _yaml(record.environment)])
    page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(run.name)}</title><style>{STYLE}</style>"
    with atomic_write(file) as temporary:
        temporary.write_text(f"{page}<body>{''.join(body)}</body></html>", "utf-8")


def _summary(run: Path, record: RunRecord) -> str:
    bundle = run / BEST if (run / BEST).is_dir() else run / LAST
    lines = [
        f"occle-train {record.command}, {record.environment.get('date', '')}, revision {record.environment.get('revision', '')}"
    ]
    if (run / SCORES).exists():
        scores = json.loads((run / SCORES).read_text("utf-8"))
        found = scores["headline"]
        numbers = " &nbsp; ".join(f"{name} {_percent(found[key])} %" for key, name in _NAMES.items() if key in found)
        lines.insert(0, f"<span class='number'>{numbers}</span><br>bundle <code>{escape(str(bundle))}</code>, on {_frames(scores)}")
    return f"<p>{'<br>'.join(lines)}</p>"


_NAMES = {"iou": "IoU", "miou": "mIoU", "rayiou": "RayIoU"}


def _frames(scores: dict[str, Any]) -> str:
    kind = "validation frames" if scores["on"] == "validation" else "of its own training frames"
    return f"{scores['frames']} {kind}"


def _section(title: str, parts: list[str]) -> list[str]:
    return [f"<h2>{escape(title)}</h2>", *parts] if parts else []


def _image(file: Path) -> str:
    kind = "jpeg" if file.suffix == ".jpg" else "png"
    data = base64.b64encode(file.read_bytes()).decode()
    return f"<img alt='{escape(file.stem)}' src='data:image/{kind};base64,{data}'>"


def _yaml(value: Any) -> str:
    return f"<pre>{escape(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))}</pre>"


def _score_table(run: Path, scores: dict[str, Any]) -> str:
    classes = load_taxonomy(read_spec(run / scores["bundle"]).taxonomy)
    kind = scores.get("occ3d") or scores["grid"]
    solid = [name for number, name in enumerate(classes.names) if number != classes.free]
    rows = [("occupied against free", kind["iou"], scores["scan"]["iou"])]
    rows += [(name, value, None) for name, value in zip(solid, kind["per_class"]) if value is not None]
    lines = [f"<tr><td>{escape(name)}</td><td>{_percent(value)}</td><td>{_percent(scan)}</td></tr>" for name, value, scan in rows]
    return f"<table><tr><th>IoU, %</th><th>network</th><th>voxelised scan</th></tr>{''.join(lines)}</table>"


def _rows_table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    head = "".join(f"<th>{_NAMES.get(name, name)}{', %' if name in _NAMES else ''}</th>" for name in names)
    lines = [
        "".join(f"<td>{_percent(float(row[name])) if name in _NAMES and row[name] else row[name]}</td>" for name in names)
        for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{100 * value:.1f}"
