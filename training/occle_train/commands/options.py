# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Options that `occle-train fit`, `fit-occle` and `adapt` share, and those of work on several workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_train.commands.common import path_option

Data = Annotated[
    list[Path] | None, path_option("data set root; its layout says which rig it is of. Given several times: frames of all of them")
]
Sequences = Annotated[str | None, typer.Option(help="comma-separated sequences, of any --data; all without")]
Labels = Annotated[Path | None, path_option("2D pseudo-labels: what label wrote, or label images")]
Targets = Annotated[Path | None, path_option("weak targets that occle-train targets made; the run's own folder without")]
Bundle = Annotated[Path | None, path_option("also write the bundle here; it is in the run's folder anyway")]
Out = Annotated[Path | None, path_option("folder of the run, instead of the next runs/NAME-NNN")]
Resume = Annotated[Path | None, path_option("run to resume; other options are the run's unless they are given")]
Name = Annotated[str, typer.Option(help="name of the run's folder; minkocc, occle or adapted without")]
Config = Annotated[str | None, typer.Option(help="configuration: a YAML file, or the name of a shipped one")]
Set = Annotated[list[str] | None, typer.Option("--set", help="a value of the configuration: --set seed=3", metavar="KEY=VALUE")]
Seed = Annotated[int | None, typer.Option(help="seed, instead of the configuration's")]
MaxMinutes = Annotated[float | None, typer.Option(min=0, help="time limit of the training; the schedule is fitted to it")]
StartFrom = Annotated[str | None, typer.Option(help="bundle whose weights to start from: a folder, or kitti or nuscenes")]
ImageWeights = Annotated[
    Path | None, path_option("weights of the image trunk, such as torchvision's ResNet-50: .safetensors, or .pth of tensors alone")
]
Validation = Annotated[Path | None, path_option("data set that is scored during the training; the best bundle is kept")]
ValidationSequences = Annotated[str | None, typer.Option(help="comma-separated sequences of --validation; all without")]
ValidateEvery = Annotated[
    int | None, typer.Option(min=1, help="steps between validations; a tenth of all without (adapt: a quarter of a round)")
]
ValidationFrames = Annotated[int | None, typer.Option(min=1, help="validation frames, evenly drawn; 24 without")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, or auto")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads")]
Processes = Annotated[int | None, typer.Option(min=1, help="processes that share every batch, one per GPU")]
Ray = Annotated[
    str | None,
    typer.Option(
        help="do the work on a Ray cluster, one actor per GPU, or per core: HOST:6379, auto, or local; its machines see the "
        "same paths",
        metavar="ADDRESS",
    ),
]
