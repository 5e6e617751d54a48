# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from occle_core.rig import Rig, RigError, read_rig
from occle_core.rig.files import class_list
from occle_core.taxonomy import TaxonomyConfig
from occle_train.commands.common import console, progress_bar, split_names, user_path
from occle_train.streets import simulate as simulate_streets
from occle_train.streets.drive import Drive
from occle_train.streets.scenes.scene import SceneKind
from occle_train.streets.simulate import check_scenes
from occle_train.streets.writing.bag import write_bag


def simulate(
    out: Annotated[
        Path,
        typer.Argument(
            help="folder to write; SemanticKITTI's layout for kitti, nuScenes + Occ3D's for nuscenes, occle's for a rig file",
            parser=user_path,
            metavar="PATH",
        ),
    ],
    rig: Annotated[
        str, typer.Option(help="kitti (one camera, 64 beams), nuscenes (six cameras, 32 beams), or a rig file", metavar="RIG")
    ] = "kitti",
    drives: Annotated[int, typer.Option(min=1, help="how many places, a drive through each")] = 1,
    frames: Annotated[int, typer.Option(min=1, help="frames per drive")] = 100,
    seed: Annotated[int, typer.Option(help="of the first drive; the others follow")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="resolution of the images")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    bag: Annotated[
        bool, typer.Option("--bag", help="write ROS 2 recordings of a rig file's drives instead of labelled frames")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="write each n-th frame only: a training set whose frames differ")] = 1,
    scenes: Annotated[
        str,
        typer.Option(
            help="street, hall or yard; several (hall,yard) are taken in turn; halls and yards need a rig file whose classes are "
            "warehouse's",
            metavar="KINDS",
        ),
    ] = "street",
) -> None:
    """Simulate drives through streets, halls and yards.

    Examples: occle-train simulate out/streets --rig kitti --drives 4 --frames 40 --scale 0.5
    occle-train simulate out/own --rig rig.yaml --drives 4 --frames 40
    occle-train simulate out/halls --rig examples/indoor_rig/rig.yaml --scenes hall --drives 4 --frames 40
    """
    kinds = cast("list[SceneKind]", split_names(scenes))
    if bag:
        _write_bags(out, user_path(rig), drives, frames, seed, scale, every, kinds)
        return
    chosen, classes = (rig, "semantickitti") if rig in ("kitti", "nuscenes") else _from_file(user_path(rig))
    with progress_bar() as bar:
        task = bar.add_task("simulating", total=drives * len(range(0, frames, every)))

        def on_frame(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        names = simulate_streets(out, chosen, drives, frames, seed, scale, workers, on_frame, every, classes, kinds)
    console.print(f"{len(names)} drives of {frames} frames in {out}: {', '.join(names)}")


def _from_file(path: Path) -> tuple[Rig, str | TaxonomyConfig]:
    if not path.exists():
        raise ValueError(f"--rig {path}: there are kitti and nuscenes, and no rig file of this name")
    try:
        rig = read_rig(path)
        return rig, class_list(rig, path) or "semantickitti"
    except RigError as error:
        raise ValueError(str(error)) from error


def _write_bags(
    out: Path, file: Path, drives: int, frames: int, seed: int, scale: float, every: int, kinds: list[SceneKind]
) -> None:
    rig, _ = _from_file(file)
    check_scenes(rig, kinds)
    with progress_bar() as bar:
        task = bar.add_task("simulating", total=drives * frames)
        for number in range(drives):
            drive = Drive(rig, seed, number, frames, scale, kinds[number % len(kinds)])
            write_bag(out / f"drive_{number:02d}", drive, rig, scale, every, lambda: bar.advance(task))
    console.print(f"{drives} bags of {frames} scans in {out}")
