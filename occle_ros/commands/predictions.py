# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle run` and `view`: predictions offline, and pictures of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_ros.commands.common import errors, path_argument, path_option, progress, report_errors, usage_error
from occle_ros.config.names import DatasetKind, EngineName


def run(
    out: Annotated[Path, path_option(help="folder to create")],
    bundle: Annotated[
        Path | None, path_option(help="folder of the network, or a shipped one's name; default: the preset's")
    ] = None,
    bag_path: Annotated[Path | None, path_option("--bag", help="bag to read")] = None,
    dataset: Annotated[Path | None, path_option(help="data set to read")] = None,
    kind: Annotated[DatasetKind | None, typer.Option(help="layout of the data set; default: detected")] = None,
    scene: Annotated[str | None, typer.Option(help="sequence or scene of the data set")] = None,
    config: Annotated[Path | None, path_option(help="parameter file of the node, for bags with other topic names")] = None,
    rig: Annotated[Path | None, path_option(help="rig.yaml of the bag's sensors")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of frames")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="number of frames to draw pictures of")] = 3,
    engine: Annotated[EngineName, typer.Option(help="inference engine")] = "auto",
) -> None:
    """Predict every frame of a bag or a data set, without dropping any.

    Example: occle run --bag out/bag_08 --bundle config/bundles/kitti --out out/run_08
    """
    if (bag_path is None) == (dataset is None):
        usage_error("give either --bag or --dataset")
    if bag_path is not None and (kind or scene):
        usage_error("--kind and --scene are for --dataset")
    if dataset is not None and (config or rig):
        usage_error("--config and --rig are for --bag")
    with report_errors(), progress("predicting") as on_progress:
        from occle_ros.config.loading import load_config
        from occle_ros.config.share_paths import resolve_bundle
        from occle_ros.tools.demo_inputs import bundle_for
        from occle_ros.tools.offline_run import run_bag, run_dataset
        from occle_ros.tools.run_report import report_lines

        given = load_config(config, rig) if config or rig else None
        chosen = resolve_bundle(str(bundle), "--bundle") if bundle else bundle_for(bag_path, dataset, kind, scene, given)
        if bag_path is not None:
            summary = run_bag(bag_path, chosen, out, given, limit, pictures, on_progress, engine)
        else:
            assert dataset is not None
            summary = run_dataset(dataset, chosen, out, kind, scene, limit, pictures, on_progress, engine)
    for line in report_lines(summary):
        typer.echo(line)
    for note in summary.notes:
        errors.print(f"note: {note}")
    for failure in summary.failed:
        errors.print(f"failed: {failure}")
    if not summary.frames:
        errors.print(f"error: no frame was predicted; see {out / 'summary.json'}")
    if summary.failed or not summary.frames:
        raise typer.Exit(1)


def view(
    source: Annotated[
        Path | None,
        path_argument(help="results of `occle run`, bag, data set, or recording of voxels; default: the running node's topics"),
    ] = None,
    html: Annotated[Path | None, path_option(help="write one self-contained page instead of opening the rerun viewer")] = None,
    save: Annotated[Path | None, path_option(help="write a recording of the rerun viewer (.rrd) instead of opening it")] = None,
    web: Annotated[bool, typer.Option("--web", help="serve the rerun viewer to browsers")] = False,
    port: Annotated[int, typer.Option(min=1, max=65534, help="of --web; its data are on the next one")] = 9090,
    bundle: Annotated[
        Path | None, path_option(help="folder of the network, or a shipped one's name; default: the preset's")
    ] = None,
    config: Annotated[Path | None, path_option(help="parameter file of the node, for its topics")] = None,
    kind: Annotated[DatasetKind | None, typer.Option(help="layout of a data set; default: detected")] = None,
    scene: Annotated[str | None, typer.Option(help="sequence or scene of a data set")] = None,
    namespace: Annotated[str, typer.Option(help="namespace of the running node")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of frames; default: 100 in a page, else all")] = None,
    every: Annotated[int, typer.Option(min=1, help="show each n-th frame only")] = 1,
    with_map: Annotated[bool, typer.Option("--map/--no-map", help="the rolling map, where poses are known")] = True,
    engine: Annotated[EngineName, typer.Option(help="inference engine for a bag or a data set")] = "auto",
) -> None:
    """Show cameras, scan, voxels, map and timings: in a page, or in the rerun viewer (pip install 'occle_ros[viewer]').

    Examples: occle view out/run_08 --html page.html            occle view out/bag_08 --web            occle view
    """
    if sum((html is not None, save is not None, web)) > 1:
        usage_error("give one of --html, --save and --web")
    if source is None and (html or kind or scene or limit or every > 1):
        usage_error("--html, --kind, --scene, --limit and --every need a SOURCE; without it the running node is shown")
    with report_errors(needs_ros=source is None), progress("viewing") as on_progress:
        from occle_core.viewer.sources import Selection
        from occle_ros.config.loading import load_config
        from occle_ros.config.node_config import NodeConfig
        from occle_ros.system.ros_process import stop_signals
        from occle_ros.viewer.live_source import live_source
        from occle_ros.viewer.show import PAGE_FRAMES, view_page, view_rerun
        from occle_ros.viewer.sources import open_source

        parameters = load_config(config) if config else None
        selection = Selection(limit or (PAGE_FRAMES if html else None), every)
        if source is not None and html is not None:
            line = view_page(open_source(source, selection, bundle, parameters, kind, scene, engine), html, with_map, on_progress)
        else:
            with stop_signals() as stop:
                if source is None:
                    found = live_source(parameters or NodeConfig(), bundle, namespace, stop)
                else:
                    found = open_source(source, selection, bundle, parameters, kind, scene, engine)
                line = view_rerun(found, save, port if web else None, with_map, on_progress, stop)
    typer.echo(line)
