"""`occle-train`: simulate streets, train, evaluate."""

from __future__ import annotations

import json
import subprocess
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from occle_core.bundle import BundleError, load_bundle, rig_spec, save_bundle
from occle_core.datasets import DatasetError
from occle_core.frame import FrameError
from occle_core.predictor import Predictor
from training import evaluate as scoring
from training.curves import draw_curve
from training.fit import LOG, FitConfig, fit
from training.report import score_table
from training.samples import Samples, open_all
from training.streets import simulate as simulate_streets

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()


class Rig(str, Enum):
    """Sensor rigs."""

    kitti = "kitti"
    nuscenes = "nuscenes"


class Size(str, Enum):
    """Network sizes."""

    tiny = "tiny"
    small = "small"
    base = "base"


class Truth(str, Enum):
    """Where a truth comes from."""

    recorded = "recorded"
    accumulated = "accumulated"


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="folder to write; SemanticKITTI's layout for kitti, nuScenes + Occ3D's for nuscenes")],
    rig: Annotated[Rig, typer.Option(help="one camera and 64 beams, or six cameras and 32 beams")] = Rig.kitti,
    drives: Annotated[int, typer.Option(min=1, help="how many streets")] = 1,
    frames: Annotated[int, typer.Option(min=1, help="frames per drive")] = 100,
    seed: Annotated[int, typer.Option(help="of the first drive; the others follow")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="resolution of the images")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    every: Annotated[int, typer.Option(min=1, help="write each n-th frame only: a training set whose frames differ")] = 1,
) -> None:
    """Simulate street drives.

    Example: occle-train simulate out/streets --rig kitti --drives 4 --frames 40 --scale 0.5
    """
    with _progress() as bar:
        task = bar.add_task("simulating", total=drives * len(range(0, frames, every)))

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        names = simulate_streets(out, rig.value, drives, frames, seed, scale, workers, told, every)
    console.print(f"{len(names)} drives of {frames} frames in {out}: {', '.join(names)}")


@app.command("fit")
def fit_command(
    data: Annotated[Path, typer.Option(help="data set root with voxel truth")],
    bundle: Annotated[Path, typer.Option(help="bundle to write at the end")],
    out: Annotated[Path, typer.Option(help="folder of checkpoint, log and curve; a run that was stopped goes on from here")] = Path(
        "out/fit"
    ),
    rig: Annotated[Rig, typer.Option(help="which volume and class list")] = Rig.kitti,
    size: Annotated[Size, typer.Option(help="network size")] = Size.small,
    config: Annotated[Path | None, typer.Option(help="YAML file with values of FitConfig")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps, instead of the configuration's")] = None,
    seed: Annotated[int | None, typer.Option(help="seed, instead of the configuration's")] = None,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    start_from: Annotated[Path | None, typer.Option(help="bundle whose weights to start from where they fit")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Train on labelled voxels and write a bundle.

    Example: occle-train fit --data out/streets --bundle out/bundle --steps 4000
    """
    if threads:
        torch.set_num_threads(threads)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    settings = _settings(config, steps, seed)
    spec = rig_spec(size.value, rig.value)
    datasets = open_all(data, [name for name in sequences.split(",") if name])
    samples = Samples(datasets, spec.voxel_grid, spec.network)
    initial = load_bundle(start_from)[1] if start_from else None
    console.print(
        f"{spec.name}: {len(samples)} frames of {len(datasets)} sequences, {settings.steps} steps on {chosen}, log in {out / LOG}"
    )
    with _progress("{task.fields[loss]}") as bar:
        task = bar.add_task("training", total=settings.steps, loss="")

        def told(step: int, losses: dict[str, float]) -> None:
            bar.update(task, completed=step + 1, loss=" ".join(f"{name} {value:.3f}" for name, value in losses.items()))

        network = fit(spec, samples, settings, out, chosen, told, initial)
    draw_curve(out / LOG, out / "curve.png", spec.name)
    provenance = {
        "data": {
            "root": data.name,
            "layout": rig.value,
            "sequences": [dataset.name for dataset in datasets],
            "frames": len(samples),
        },
        "labels": "voxel truth of every frame",
        "started_from": load_bundle(start_from)[2] if start_from else None,
        "fit": settings.model_dump(mode="json"),
        "revision": _revision(),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
    save_bundle(bundle, spec.model_copy(update={"provenance": provenance}), network)
    console.print(f"wrote {bundle}; measure it: occle-train evaluate --bundle {bundle} --data DIR")


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Option(help="bundle folder")],
    data: Annotated[Path, typer.Option(help="data set root, sequence folder or extract")],
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    truth: Annotated[Truth, typer.Option(help="recorded voxels, or accumulated from labelled scans and poses")] = Truth.recorded,
    every: Annotated[int, typer.Option(min=1, help="take each n-th frame")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the scores here")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Completion IoU, mIoU and per-class IoU of a bundle, with the plain voxelised scan beside it.

    Example: occle-train evaluate --bundle config/bundles/kitti --data out/validation
    """
    predictor = Predictor.load(bundle, threads)
    datasets = open_all(data, [name for name in sequences.split(",") if name])
    source = scoring.recorded if truth is Truth.recorded else scoring.accumulated
    with _progress() as bar:
        task = bar.add_task("evaluating", total=sum(len(range(0, len(dataset), every)) for dataset in datasets))
        scores = scoring.evaluate(predictor, datasets, source, every, lambda name, i: bar.advance(task))
    console.print(score_table(scores, predictor.taxonomy, predictor.bundle_id))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({"bundle": predictor.bundle_id, **scores}, indent=1, default=_plain), encoding="utf-8")


def main() -> None:
    """Entry point: errors that a user can mend are one line on stderr and exit code 1."""
    try:
        app()
    except (BundleError, DatasetError, FrameError, ValueError, FileNotFoundError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from error


def _settings(config: Path | None, steps: int | None, seed: int | None) -> FitConfig:
    import yaml

    content: dict[str, Any] = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}) if config else {}
    content.update({name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None})
    return FitConfig.model_validate(content)


def _progress(extra: str = "") -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    return Progress(*columns, TextColumn(extra), console=console)


def _revision() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [None if np.isnan(v) else float(v) for v in value]
    return float(value)


if __name__ == "__main__":
    main()
