# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train choose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from occle_core.atomic_file import write_json
from occle_core.bundle import find_bundle, load_bundle
from occle_core.datasets import DatasetError
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.sparse.native_gemm import compiled_kernels
from occle_train.adaptation.choose import candidates
from occle_train.adaptation.choose import choose as ranked
from occle_train.adaptation.config import AdaptConfig
from occle_train.commands.common import console, path_option, progress_bar, say, split_names
from occle_train.data.samples import listed_taxonomy, open_all
from occle_train.runs.checks import check_device


def choose(
    bundle: Annotated[Path, path_option("bundle folder, or the name of a shipped one")],
    data: Annotated[Path, path_option("recordings: scans, images, poses; no labels of theirs are read")],
    budget: Annotated[int, typer.Option(min=1, help="how many frames are to be labelled")] = 20,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    json_file: Annotated[Path | None, path_option("also write the chosen frames here", "--json")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Rank the frames of recordings by what labelling them would teach: the network's disagreement over time, and diversity.

    Example: occle-train choose --bundle kitti --data recordings --budget 20
    """
    place = check_device(device)
    if threads:
        torch.set_num_threads(threads)
    spec, network, _ = load_bundle(find_bundle(bundle))
    if not isinstance(network, MinkOcc):
        raise ValueError(f"{bundle}: no MinkOcc network; choose with another bundle")
    datasets = open_all(data, split_names(sequences), listed_taxonomy(spec))
    with compiled_kernels(place, say), progress_bar() as bar:
        task = bar.add_task("comparing", total=sum(map(len, datasets)))
        found = candidates(spec, network.eval().to(place), datasets, AdaptConfig(), place, lambda: bar.advance(task))
    if not found:
        raise DatasetError(f"{data}: no frame has a pose and points in the grid")
    chosen = [found[number] for number in ranked(found, budget)]
    table = Table("rank", "sequence", "frame", "disagreement", box=None)
    for rank, frame in enumerate(chosen, 1):
        table.add_row(str(rank), frame.scene, f"{frame.number:06d}", f"{frame.disagreement:.3f}")
    console.print(table)
    if json_file is not None:
        rows = [{"sequence": frame.scene, "frame": frame.number, "disagreement": round(frame.disagreement, 4)} for frame in chosen]
        write_json(json_file, {"frames": rows})
