"""`occle-train`: simulate streets, label images, train, evaluate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from occle_core import taxonomy
from occle_core.bundle import BundleError, BundleSpec, load_bundle, read_spec, rig_spec, save_bundle, spec_for
from occle_core.datasets import DatasetError
from occle_core.engines import EngineError, describe
from occle_core.frame import FrameError
from occle_core.predictor import Predictor
from training import evaluate as scoring
from training import export as exporting
from training.checkpoints import LOG
from training.curves import draw_curve
from training.fit import FitConfig, fit
from training.parallel import joined
from training.pseudo_labels.degrade import DegradeConfig, Degraded
from training.pseudo_labels.files import LabelFolder, write_missing
from training.pseudo_labels.grounded_sam import GroundedSam
from training.pseudo_labels.prompts import load_prompts
from training.recipe import RecipeSamples
from training.report import capacity_table, parity_line, score_table
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


@app.command()
def label(
    data: Annotated[Path, typer.Option(help="data set root with images")],
    out: Annotated[Path, typer.Option(help="folder of label images to write; images that have labels there are left out")],
    detector: Annotated[str, typer.Option(help="Grounding DINO: model name or local folder")] = "IDEA-Research/grounding-dino-base",
    segmenter: Annotated[str, typer.Option(help="SAM or SAM 2: model name or local folder")] = "facebook/sam-vit-base",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="least confidence of a detection")] = 0.3,
    simulated: Annotated[bool, typer.Option(help="the street simulator's semantic images, degraded; no models needed")] = False,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Make 2D pseudo-labels of all images for fit's --labels; a run that was stopped goes on.

    Example: occle-train label --data data/nuscenes --out data/labels --segmenter facebook/sam2.1-hiera-large
    """
    datasets = open_all(data, [name for name in sequences.split(",") if name])
    classes = datasets[0].taxonomy
    if simulated:
        labeller: Degraded | GroundedSam = Degraded(classes, DegradeConfig(), 0)
    else:
        labeller = GroundedSam(detector, segmenter, load_prompts(classes), _device(device), threshold)
    with _progress() as bar:
        task = bar.add_task("labelling", total=sum(map(len, datasets)))
        told = write_missing(out, datasets, labeller, classes, labeller.source, lambda scene, i: bar.advance(task))
    console.print(f"{told[0]} images labelled, {told[1]} had labels, in {out}")


@app.command("fit")
def fit_command(
    data: Annotated[Path, typer.Option(help="data set root with voxel truth")],
    bundle: Annotated[Path, typer.Option(help="bundle to write at the end")],
    out: Annotated[Path, typer.Option(help="folder of checkpoint, log and curve; a run that was stopped goes on from here")] = Path(
        "out/fit"
    ),
    rig: Annotated[Rig, typer.Option(help="which volume and class list")] = Rig.kitti,
    size: Annotated[Size, typer.Option(help="network size")] = Size.small,
    finer: Annotated[int, typer.Option(min=1, help="cells this many times smaller than 0.4 m: 2 for 0.2 m, 4 for 0.1 m")] = 1,
    config: Annotated[Path | None, typer.Option(help="YAML file with values of FitConfig, such as config/training/*.yaml")] = None,
    labels: Annotated[Path | None, typer.Option(help="2D pseudo-labels of a recipe: what label wrote, or label images")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps, instead of the configuration's")] = None,
    seed: Annotated[int | None, typer.Option(help="seed, instead of the configuration's")] = None,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    start_from: Annotated[Path | None, typer.Option(help="bundle whose weights to start from where they fit")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
    processes: Annotated[int, typer.Option(min=1, help="processes that share every batch, one per GPU")] = 1,
) -> None:
    """Train on labelled voxels, or by the recipe of the configuration, and write a bundle.

    Example: occle-train fit --data out/streets --bundle out/bundle --steps 4000
    """
    if processes > 1 and "RANK" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        raise typer.Exit(subprocess.run([*torchrun, "-m", "training.cli", *sys.argv[1:]]).returncode)
    if threads:
        torch.set_num_threads(threads)
    spec = _spec(size, rig, finer)
    datasets = open_all(data, [name for name in sequences.split(",") if name])
    settings = _settings(config, steps, seed)
    memory = 4.0 / max(1, settings.workers)
    if settings.recipe:
        folder = LabelFolder(labels, taxonomy.load(spec.taxonomy)) if labels else None
        cache = out / "accumulated"
        samples: Samples = RecipeSamples(datasets, spec.voxel_grid, spec.network, settings.recipe, folder, cache, memory)
    else:
        samples = Samples(datasets, spec.voxel_grid, spec.network, memory)
    settings = settings.for_frames(len(samples))
    initial = load_bundle(start_from)[1] if start_from else None
    with joined(_device(device)) as (group, place):
        console.quiet = group.rank > 0
        console.print(
            f"{spec.name}: {len(samples)} frames of {len(datasets)} sequences, {len(samples.warm)} with voxel labels, "
            f"{settings.steps} steps on {group.size} x {place}, log in {out / LOG}"
        )
        with _progress("{task.fields[loss]}") as bar:
            task = bar.add_task("training", total=settings.steps, loss="")

            def told(step: int, losses: dict[str, float]) -> None:
                bar.update(task, completed=step + 1, loss=" ".join(f"{name} {value:.3f}" for name, value in losses.items()))

            network = fit(spec, samples, settings, out, place, told, initial, group)
        if group.rank:
            return
    draw_curve(out / LOG, out / "curve.png", spec.name)
    provenance = {
        "data": {
            "root": data.name,
            "layout": rig.value,
            "sequences": [dataset.name for dataset in datasets],
            "frames": len(samples),
        },
        "labels": samples.provenance() if isinstance(samples, RecipeSamples) else "voxel truth of every frame",
        "started_from": load_bundle(start_from)[2] if start_from else None,
        "fit": settings.model_dump(mode="json"),
        "revision": revision(),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
    save_bundle(bundle, spec.model_copy(update={"provenance": provenance}), network)
    console.print(f"wrote {bundle}; measure it: occle-train evaluate --bundle {bundle} --data DIR")


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="bundle folder")],
    data: Annotated[Path | None, typer.Option(help="frames of the rig: measure what the engines' tables must hold")] = None,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    frames: Annotated[int, typer.Option(min=1, help="how many frames, drawn evenly")] = 40,
    keep: Annotated[bool, typer.Option(help="leave the bundle's measured tables as they are")] = False,
    int8: Annotated[bool, typer.Option(help="also quantise the image branch to int8 (OpenVINO, NNCF)")] = False,
    check: Annotated[bool, typer.Option(help="fail unless the engines agree with eager PyTorch on the frames")] = False,
    engines: Annotated[str, typer.Option(help="comma-separated engines to build and check")] = "openvino,onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
) -> None:
    """Get a bundle ready for engines of fixed shapes: measure its tables, build the engines, hold them against PyTorch.

    Example: occle-train export config/bundles/kitti --data out/streets --check
    """
    if data is None and (int8 or check or not keep):
        raise ValueError("--data names the frames to measure, quantise and check with; without any: --keep")
    datasets = open_all(data, [name for name in sequences.split(",") if name]) if data else []
    prepared = list(exporting.frames_of(datasets, read_spec(bundle), frames))
    if not keep:
        console.print(capacity_table(exporting.calibrate(bundle, prepared)))
    if int8:
        exporting.write_int8(bundle, prepared, console.print)
    failed = []
    for name in engines.split(","):
        engine, parity = exporting.check(bundle, name, precision, prepared if check else [], console.print)
        console.print(describe(engine), highlight=False)
        if check:
            console.print(parity_line(parity), highlight=False)
            if not parity.passes(precision):
                failed.append(name)
    if failed:
        raise ValueError(f"{', '.join(failed)}: labels differ from PyTorch's by more than {precision} may; do not use this engine")


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Option(help="bundle folder")],
    data: Annotated[Path, typer.Option(help="data set root, sequence folder or extract")],
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    truth: Annotated[Truth, typer.Option(help="recorded voxels, or accumulated from labelled scans and poses")] = Truth.recorded,
    every: Annotated[int, typer.Option(min=1, help="take each n-th frame")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the scores here")] = None,
    engine: Annotated[str, typer.Option(help="what runs the network, see occle-train export")] = "torch",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Completion IoU, mIoU and per-class IoU of a bundle, with the plain voxelised scan beside it.

    Example: occle-train evaluate --bundle config/bundles/kitti --data out/validation
    """
    predictor = Predictor.load(bundle, engine, precision, threads, console.print)
    datasets = open_all(data, [name for name in sequences.split(",") if name])
    source = scoring.recorded if truth is Truth.recorded else scoring.accumulated
    with _progress() as bar:
        task = bar.add_task("evaluating", total=sum(len(range(0, len(dataset), every)) for dataset in datasets))
        scores = scoring.evaluate(predictor, datasets, source, every, lambda name, i: bar.advance(task))
    console.print(score_table(scores, predictor.taxonomy, predictor.bundle_id))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(
            json.dumps({"bundle": predictor.bundle_id, **scores}, indent=1, default=scoring.plain), encoding="utf-8"
        )


def main() -> None:
    """Entry point: errors that a user can mend are one line on stderr and exit code 1."""
    try:
        app()
    except (BundleError, EngineError, DatasetError, FrameError, ValueError, KeyError, OSError, ModuleNotFoundError) as error:
        # A KeyError's text is its argument in quotation marks.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        Console(stderr=True).print("[red]error:[/red]", escape(str(text)), highlight=False, soft_wrap=True)
        raise SystemExit(1) from error


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _spec(size: Size, rig: Rig, finer: int) -> BundleSpec:
    """The spec of a network size, on cells `finer` times smaller than its own."""
    spec = rig_spec(size.value, rig.value)
    if finer == 1:
        return spec
    return spec_for(spec.network, spec.voxel_grid.finer(finer), spec.taxonomy, f"{spec.name}-{finer}x")


def _settings(config: Path | None, steps: int | None, seed: int | None) -> FitConfig:
    import yaml

    content: dict[str, Any] = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}) if config else {}
    if steps is not None:
        content.pop("epochs", None)
    content.update({name: value for name, value in (("steps", steps), ("seed", seed)) if value is not None})
    return FitConfig.model_validate(content)


def _progress(extra: str = "") -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    return Progress(*columns, TextColumn(extra), console=console)


def revision() -> str:
    """Git revision of this code, for provenance."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
