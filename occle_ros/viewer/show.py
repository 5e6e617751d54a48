# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle view`: frames in a page or in the rerun viewer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from occle_core.console import print_notice
from occle_core.viewer.page import write_page
from occle_core.viewer.rerun_viewer import RerunViewer
from occle_core.viewer.sources import ViewSource
from occle_core.viewer.view_frame import ViewFrame, add_map

PAGE_FRAMES = 100
"""Frames of a page, unless --limit says otherwise: about 10 MB with one camera."""


def view_page(source: ViewSource, page: Path, with_map: bool, on_progress: Callable[[int, int], None]) -> str:
    """Write the page; returns its path and size as text.

    Raises:
        ViewError: there is no frame. OSError: it cannot be written. What the source raises.
    """
    return str(write_page(page, _frames(source, with_map, on_progress), source.title, source.subtitle))


def view_rerun(
    source: ViewSource,
    save: Path | None,
    web_port: int | None,
    with_map: bool,
    on_progress: Callable[[int, int], None],
    stop: threading.Event,
) -> str:
    """Show the frames in the rerun viewer; returns what was done as text.

    Args:
        source: the frames.
        save: .rrd file to write; None: show them.
        web_port: serve a browser until `stop` is set; None: open a window.
        with_map: compute the rolling map where poses are known.
        on_progress: called with (frames done, total).
        stop: set by Ctrl-C.

    Raises:
        ViewError: rerun is not installed or cannot start. OSError: the file cannot be written. What the source raises.
    """
    viewer = RerunViewer(source.title, source.taxonomy, source.camera_names, live=source.count is None)
    if save:
        viewer.save(save)
    elif web_port is not None:
        data_port, host = viewer.serve(web_port), socket.gethostname()
        print_notice(f"open http://{host}:{web_port}/?url=rerun%2Bhttp://{host}:{data_port}/proxy (Ctrl-C ends it)")
    else:
        viewer.open_window()
    frames = 0
    for shown in _frames(source, with_map, on_progress):
        viewer.show(shown)
        frames += 1
        if stop.is_set():
            break
    if web_port is not None and not stop.is_set():
        print_notice(f"all {frames} frames are served")
        stop.wait()
    viewer.close()
    return f"{save}: {frames} frames, {save.stat().st_size / 1e6:.1f} MB" if save else f"{frames} frames were shown"


def _frames(source: ViewSource, with_map: bool, on_progress: Callable[[int, int], None]) -> Iterator[ViewFrame]:
    if source.count is not None and source.total is not None and source.count < source.total:
        print_notice(f"showing {source.count} of {source.total} frames; --limit and --every select others")
    for done, shown in enumerate(add_map(source.frames) if with_map else source.frames, 1):
        yield shown
        if source.count is not None:
            on_progress(done, source.count)
