# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rerun viewer: cameras, scan, voxels, map and timings of frames, in a window, a browser or a file."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.console import one_line
from occle_core.geometry.affine import transform_points
from occle_core.geometry.camera import Camera
from occle_core.taxonomy import Taxonomy
from occle_core.viewer.layers import UNNAMED, UNNAMED_COLOR, Layer, layers_of, surface_cells
from occle_core.viewer.view_frame import ViewError, ViewFrame

WORLD, ROBOT, MAP = "world", "world/robot", "world/map"
UNNAMED_OPACITY = 0.3
FAINTEST = 0.15  # opacity of a voxel of no confidence
WEB_PORT = 9090


def load_rerun() -> Any:
    """The module `rerun`.

    Raises:
        ViewError: it is not installed.
    """
    try:
        import rerun
    except ImportError as error:
        raise ViewError(
            f"the rerun viewer is not installed ({error}): pip install -c constraints/pip.txt 'occle_ros[viewer]'; "
            "--html writes a page without it"
        ) from error
    return rerun


class RerunViewer:
    """A recording of the rerun viewer.

    Entities: world/robot (the occupancy's grid frame) with scan, cameras and voxels/<class>; world/map/<class>;
    timings/<stage>. Timelines: "frame", and "time" of the scans' stamps.

    Args:
        title: of the recording.
        taxonomy: the classes.
        camera_names: for the layout.
        live: follow the newest frame by its time; else the timeline counts frames.

    Raises:
        ViewError: rerun is not installed.
    """

    def __init__(self, title: str, taxonomy: Taxonomy, camera_names: Iterable[str], live: bool = False) -> None:
        self._rr = load_rerun()
        self.taxonomy = taxonomy
        self._recording = self._rr.RecordingStream("occle")
        self._recording.send_recording_name(title)
        self._layout = self._blueprint(tuple(camera_names), "time" if live else "frame")
        self._classes: dict[str, set[int]] = {}

    def save(self, path: Path) -> None:
        """Write what follows to an .rrd file; call it before the first frame.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb"):
            pass  # rerun itself would only log an error
        self._recording.save(str(path), default_blueprint=self._layout)

    def open_window(self) -> None:
        """Show what follows in rerun's window; one that is open already is used.

        Raises:
            ViewError: there is no display, or it cannot be started.
        """
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ViewError("there is no display for rerun's window (DISPLAY is not set); use --web, --save or --html")
        # The viewer of the same installation: PATH has another one, or none where the environment is not activated.
        packaged = importlib.util.find_spec("rerun_cli")
        program = Path(packaged.origin).with_name("rerun") if packaged and packaged.origin else None
        path = str(program) if program and program.exists() else None
        try:
            self._rr.spawn(executable_path=path, default_blueprint=self._layout, recording=self._recording)
        except (OSError, RuntimeError) as error:
            raise ViewError(f"rerun's window cannot be opened ({one_line(error)}); use --web, --save or --html") from error

    def serve(self, web_port: int = WEB_PORT) -> int:
        """Serve what follows to browsers until this process ends: the page on a port, and its data on the next one.

        Returns:
            The data's port.

        Raises:
            ViewError: a port is taken.
        """
        data_port = web_port + 1
        for port in (web_port, data_port):
            _check_port(port)
        try:
            # The page comes from web_port, under whatever name this machine has, and reads from data_port.
            origins = [f"http://*:{web_port}"]
            self._recording.serve_grpc(grpc_port=data_port, default_blueprint=self._layout, cors_allow_origin=origins)
            self._rr.serve_web_viewer(web_port=web_port, open_browser=False)
        except (OSError, RuntimeError) as error:
            raise ViewError(f"browsers cannot be served ({one_line(error)}); choose another --port") from error
        return data_port

    def show(self, shown: ViewFrame) -> None:
        """Add a frame."""
        self.set_time(shown.occupancy.stamp, shown.number)
        pose = shown.T_world_grid
        if pose is not None:
            self._log(ROBOT, self._rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        layers = layers_of(shown)
        self.log_voxels(f"{ROBOT}/voxels", layers["frame"])
        if "truth" in layers:
            self.log_voxels(f"{ROBOT}/truth", layers["truth"])
        if "map" in layers:
            self.log_voxels(MAP, layers["map"])
        if len(shown.frame.points):
            self.log_points(transform_points(shown.frame.T_grid_lidar, shown.frame.points[:, :3]))
        for name, image in shown.images.items():
            camera = shown.cameras.get(name)
            T_grid_camera = None if camera is None else shown.frame.T_grid_lidar @ np.linalg.inv(camera.T_camera_lidar)
            self.log_image(name, image, camera, T_grid_camera)
        self.log_timings(shown.occupancy.timings)

    def set_time(self, stamp: int, number: int) -> None:
        """Time of what is logged next: a scan's stamp (ns) and its number."""
        self._recording.set_time("frame", sequence=number)
        self._recording.set_time("time", timestamp=np.datetime64(stamp, "ns"))

    def log_voxels(self, path: str, layer: Layer) -> None:
        """The surface voxels of a layer, an entity per class under `path`, so that classes can be hidden."""
        surface = surface_cells(layer)
        centers, labels, opacity = layer.grid.centers_at(layer.cells[surface]), layer.labels[surface], layer.opacity[surface]
        present = set(np.unique(labels).tolist())
        for label in sorted(present | self._classes.get(path, set())):
            mine = labels == label
            count = int(mine.sum())
            known = label < self.taxonomy.num_classes
            rgb = self.taxonomy.colors[label] if known else UNNAMED_COLOR
            alpha = (FAINTEST + (1 - FAINTEST) * np.clip(opacity[mine], 0, 1)) * (1 if known else UNNAMED_OPACITY)
            colors = np.column_stack([np.tile(rgb, (count, 1)), np.round(255 * alpha)]).astype(np.uint8)
            half_sizes = np.full((count, 3), layer.grid.resolution / 2)
            boxes = self._rr.Boxes3D(centers=centers[mine], half_sizes=half_sizes, colors=colors, fill_mode="solid")
            # A class that has gone is logged once more, without voxels: an entity keeps its last value.
            self._log(f"{path}/{_part(self.taxonomy.names[label] if known else UNNAMED)}", boxes)
        self._classes[path] = present

    def log_points(self, points: NDArray[np.floating]) -> None:
        """The scan (N, 3), metres, in the grid's frame."""
        self._log(f"{ROBOT}/scan", self._rr.Points3D(np.ascontiguousarray(points), radii=0.03, colors=[90, 90, 90]))

    def log_image(
        self, name: str, image: NDArray[np.uint8], camera: Camera | None = None, T_grid_camera: NDArray[np.float64] | None = None
    ) -> None:
        """A camera's image (H, W, 3), with its place where that is known."""
        path = f"{ROBOT}/{_part(name)}"
        if camera is not None and T_grid_camera is not None:
            self._log(path, self._rr.Transform3D(translation=T_grid_camera[:3, 3], mat3x3=T_grid_camera[:3, :3]))
            pinhole = self._rr.Pinhole(
                image_from_camera=camera.K, resolution=[camera.width, camera.height], image_plane_distance=1.5
            )
            self._log(path, pinhole)
        written, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
        assert written
        self._log(path, self._rr.EncodedImage(contents=data.tobytes(), media_type="image/jpeg"))

    def log_timings(self, timings: Mapping[str, float]) -> None:
        """Milliseconds per stage."""
        for name, milliseconds in timings.items():
            self._log(f"timings/{_part(name)}", self._rr.Scalars(milliseconds))

    def close(self) -> None:
        """Write or send what is left.

        Raises:
            ViewError: that was not possible, for instance because the disk is full.
        """
        try:
            self._recording.flush()
        except RuntimeError as error:
            raise ViewError(
                f"the recording is not complete ({one_line(error)}): is the disk full, or the viewer closed?"
            ) from error
        finally:
            self._recording.disconnect()

    def _log(self, path: str, what: Any) -> None:
        self._recording.log(path, what)

    def _blueprint(self, camera_names: tuple[str, ...], timeline: str) -> Any:
        views = self._rr.blueprint
        images = [views.Spatial2DView(origin=f"{ROBOT}/{_part(name)}", contents="$origin", name=name) for name in camera_names]
        hidden = [f"- {ROBOT}/truth/**", f"- {MAP}/**"]
        eye = views.EyeControls3D(position=(-18.0, -10.0, 16.0), look_target=(12.0, 0.0, -2.0), eye_up=(0.0, 0.0, 1.0))
        space = views.Tabs(
            views.Spatial3DView(origin=ROBOT, contents=["$origin/**", *hidden], name="this frame", eye_controls=eye),
            views.Spatial3DView(origin=ROBOT, contents=[f"{MAP}/**"], name="rolling map", eye_controls=eye),
            views.Spatial3DView(origin=ROBOT, contents=[f"{ROBOT}/truth/**"], name="truth", eye_controls=eye),
        )
        side = views.Vertical(*images, views.TimeSeriesView(origin="timings", name="timings, ms"))
        layout = views.Horizontal(space, side, column_shares=[3, 1.4])
        panels = [views.TimePanel(state="collapsed", timeline=timeline), views.SelectionPanel(state="hidden")]
        return views.Blueprint(layout, *panels, views.BlueprintPanel(state="collapsed"), auto_views=False)


def _part(name: str) -> str:
    """A name as one part of an entity's path."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) or "_"


def _check_port(port: int) -> None:
    """Rerun only logs an error where a port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise ViewError(f"port {port} cannot be used ({one_line(error)}); choose another with --port") from error
