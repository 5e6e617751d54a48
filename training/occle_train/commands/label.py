# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train label`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from occle_core.bundle import rig_spec
from occle_core.datasets.completeness import require_files
from occle_core.taxonomy import Taxonomy
from occle_train.commands import options as opt
from occle_train.commands.common import console, path_option, progress_bar, split_names
from occle_train.commands.settings import merged_settings, parse_config
from occle_train.data.samples import open_all
from occle_train.occle.alignment import Alignment, load_alignment
from occle_train.occle.labeller import AlignedLabeller, TransformersSegmenter, Universal, UniversalLabelFolder
from occle_train.pseudo_labels.cell_folder import CellConfig, grid_of, write_cells
from occle_train.pseudo_labels.degrade import DegradeConfig, DegradedLabeller
from occle_train.pseudo_labels.grounded_sam import GroundedSam
from occle_train.pseudo_labels.label_folder import LabelFolder, Labeller, LoadedOnce, write_missing
from occle_train.pseudo_labels.prompts import load_prompts
from occle_train.pseudo_labels.universal_names import parse_renames
from occle_train.runs.checks import check_classes, check_device, rig_of
from occle_train.worker_pool import find_workers


def label(
    data: Annotated[Path, path_option("data set root with images")],
    out: Annotated[Path, path_option("folder of label images to write; images that have labels there are left out")],
    detector: Annotated[str, typer.Option(help="Grounding DINO: model name or local folder")] = "IDEA-Research/grounding-dino-base",
    segmenter: Annotated[str, typer.Option(help="SAM or SAM 2: model name or local folder")] = "facebook/sam-vit-base",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="least confidence of a detection")] = 0.3,
    simulated: Annotated[bool, typer.Option(help="the street simulator's semantic images, degraded; no models needed")] = False,
    specific: Annotated[str, typer.Option(help="OccLE's aligned labels: folder of MSeg label maps, or a segmentation model")] = "",
    renames: Annotated[
        list[str] | None,
        typer.Option("--rename", help="with --specific, a model's class as a universal one", metavar="CLASS=UNIVERSAL"),
    ] = None,
    align: Annotated[bool, typer.Option(help="with --specific, let detector and segmenter add the classes that it lacks")] = True,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    cells: Annotated[
        Path | None, path_option("also write 3D labels here: cells carved by rays, moving points, classes by the points' votes")
    ] = None,
    ready: Annotated[bool, typer.Option(help="--out holds label images already: make none, only the 3D labels of --cells")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes that share the frames, one per GPU")] = None,
    ray: opt.Ray = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="with --simulated a value of DegradeConfig: --set miss_prob=0.1; with --cells one of CellConfig: --set "
            "cells.free_margin=2",
            metavar="KEY=VALUE",
        ),
    ] = None,
) -> None:
    """Make 2D pseudo-labels of all images for fit's and fit-occle's --labels, and 3D ones from them; a stopped run is resumed.

    With --specific, a dataset-specific segmenter gives the labels, detector and segmenter only those classes that it lacks.

    Example: occle-train label --data data/nuscenes --out data/labels --segmenter facebook/sam2.1-hiera-large
    """
    place = check_device(device) if ray is None else device
    if renames and not specific:
        raise ValueError("--rename is for the classes of --specific MODEL; prompts are in pseudo_labels/data/prompts")
    if not align and not specific:
        raise ValueError("--no-align is about the labels of --specific; give that too")
    given = merged_settings({}, None, assignments or [])
    carving = parse_config(CellConfig, given.pop("cells", {}), "--set cells")
    if given and not simulated:
        raise ValueError("--set changes how --simulated labels are degraded, or --set cells.KEY=VALUE; models have --threshold")
    errors = parse_config(DegradeConfig, given, "--set")
    if ready and cells is None:
        raise ValueError("--ready leaves nothing to do without --cells; give --cells DIR")
    found_workers = find_workers(workers, ray, place)
    datasets = open_all(data, split_names(sequences))
    check_classes({data: datasets})
    classes = datasets[0].taxonomy
    if not ready:
        images = ((dataset, i, camera) for dataset in datasets for i in range(len(dataset)) for camera in dataset.camera_names)
        found = ((dataset.name, dataset.image_file(i, camera)) for dataset, i, camera in images)
        require_files((name, file) for name, file in found if file is not None)
        load = partial(
            _labeller, classes, detector, segmenter, threshold, errors if simulated else None, specific, renames or [], align
        )
        labeller, source = load(place if found_workers.alone else "cpu")
        _say_what_is_unknown(labeller, specific)
        if not found_workers.alone:
            labeller = LoadedOnce(partial(_loaded, load, "cuda" if found_workers.gpus else "cpu"))
        with progress_bar() as bar:
            task = bar.add_task("labelling", total=sum(map(len, datasets)))
            done = write_missing(out, datasets, labeller, classes, source, lambda scene, i: bar.advance(task), found_workers)
        console.print(f"{done[0]} images labelled, {done[1]} had labels, in {out}")
    if cells is not None:
        grid = grid_of(datasets) or rig_spec("small", rig_of(datasets, None, data)).voxel_grid
        folder = LabelFolder(out, classes)
        with progress_bar() as bar:
            task = bar.add_task("carving", total=sum(map(len, datasets)))
            done = write_cells(cells, datasets, grid, folder, carving, lambda scene, i: bar.advance(task), found_workers)
        console.print(f"{done[0]} frames with 3D labels, {done[1]} had them, in {cells}")


def _labeller(
    classes: Taxonomy,
    detector: str,
    segmenter: str,
    threshold: float,
    errors: DegradeConfig | None,
    specific: str,
    renames: list[str],
    align: bool,
    device: str,
) -> tuple[Labeller, dict[str, Any]]:
    """What labels the images, and what the manifest says of it; `errors` are those of degraded simulated labels."""
    if errors is not None:
        degraded = DegradedLabeller(classes, errors, 0)
        return degraded, degraded.source
    alignment = load_alignment(classes) if specific else None
    prompts = alignment.prompts if alignment else load_prompts(classes)
    found_by = GroundedSam(detector, segmenter, prompts, device, threshold) if align else None
    if alignment is None:
        assert found_by is not None
        return found_by, found_by.source
    rename = parse_renames(renames, set(alignment.names.values()))
    labeller = AlignedLabeller(_universal(specific, alignment, device, rename), found_by, alignment)
    source = {"specific": specific, "open_vocabulary": found_by.source if found_by else None, "alignment": classes.name}
    return labeller, source | ({"rename": rename} if rename else {})


def _universal(specific: str, alignment: Alignment, device: str, rename: dict[str, str]) -> Universal:
    """MSeg label maps from a folder, or a model's; a folder with a config.json is a model's."""
    folder = Path(specific)
    if folder.is_dir() and not (folder / "config.json").exists():
        return UniversalLabelFolder(folder)
    return TransformersSegmenter(specific, alignment, rename, device)


def _loaded(load: Callable[[str], tuple[Labeller, dict[str, Any]]], device: str) -> Labeller:
    return load(device)[0]


def _say_what_is_unknown(labeller: Labeller, specific: str) -> None:
    model = labeller.specific if isinstance(labeller, AlignedLabeller) else None
    if not isinstance(model, TransformersSegmenter):
        return
    for names, what in ((model.unused, "classes of it that stand for nothing"), (model.lacking, "universal classes that it lacks")):
        if names:
            console.print(f"{specific}: {what}: {', '.join(names)}", highlight=False, soft_wrap=True)
