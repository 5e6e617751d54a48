# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recordings of the rerun viewer, read back with rerun's own reader; and what is said where it is not installed."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from view_frames import BUILDING, CAR, CLASSES, GRID, ROAD, view_frame

from occle_core.geometry.camera import Camera
from occle_core.viewer.layers import layers_of, surface_cells
from occle_core.viewer.rerun_viewer import RerunViewer
from occle_core.viewer.view_frame import ViewError, add_map

LOOKING_AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.2], [0, 0, 0, 1]])
CAMERA = Camera(np.array([[80.0, 0, 80], [0, 80, 30], [0, 0, 1]]), LOOKING_AHEAD, 160, 60)


@pytest.fixture
def recorded(tmp_path):
    """recorded(frames)(entity, component) -> values by frame number, as they are in the file."""
    chunk = pytest.importorskip("rerun.chunk", reason="the extra [viewer] is not installed")

    def record(frames):
        viewer = RerunViewer("drive", CLASSES, ["cam2"])
        viewer.save(tmp_path / "deep" / "view.rrd")
        for shown in frames:
            viewer.show(shown)
        viewer.close()
        pieces = chunk.RrdReader(str(tmp_path / "deep" / "view.rrd")).stream().to_chunks()

        def read(entity, component):
            found = {}
            for piece in pieces:
                batch = piece.to_record_batch()
                if piece.entity_path == f"/{entity}" and component in batch.schema.names:
                    found |= dict(zip(batch["frame"].to_pylist(), batch[component].to_pylist()))
            return found

        return read

    return record


def test_voxels_are_one_entity_per_class(recorded):
    shown = view_frame()
    read = recorded([shown])
    layer = layers_of(shown)["frame"]
    surface = surface_cells(layer)
    for label in (CAR, ROAD, BUILDING):
        mine = surface & (layer.labels == label)
        entity = f"world/robot/voxels/{CLASSES.names[label]}"
        np.testing.assert_allclose(read(entity, "Boxes3D:centers")[0], GRID.centers_at(layer.cells[mine]), atol=1e-6)
        np.testing.assert_allclose(read(entity, "Boxes3D:half_sizes")[0], np.full((mine.sum(), 3), 0.2), atol=1e-6)
        colors = np.array(read(entity, "Boxes3D:colors")[0], np.uint32)
        rgb = np.stack([colors >> s & 255 for s in (24, 16, 8)], 1)
        assert (rgb == CLASSES.colors[label]).all()
        alpha = 0.15 + 0.85 * layer.opacity[mine]
        assert np.abs((colors & 255) / 255 - alpha).max() <= 0.5 / 255 + 1e-6
    assert not surface.all()


def test_a_class_that_has_gone_disappears(recorded):
    first, second = view_frame(0), view_frame(1)
    sparse = second.occupancy.sparse
    without = replace(second.occupancy, sparse=sparse[sparse.classes != CAR])
    read = recorded([first, replace(second, occupancy=without)])
    cars = read("world/robot/voxels/car", "Boxes3D:centers")
    assert len(cars[0]) == 4 * 3 * 3 - 4 and cars[1] == []  # four are covered: two of them from below by the road


def test_cameras_scan_map_pose_and_timings(recorded):
    frames = [replace(shown, cameras={"cam2": CAMERA}) for shown in add_map(view_frame(number) for number in range(2))]
    read = recorded(frames)
    image = cv2.imdecode(np.array(read("world/robot/cam2", "EncodedImage:blob")[1][0], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (60, 160, 3) and np.abs(image[:, :, ::-1].mean(axis=(0, 1)) - (200, 30, 30)).max() < 3
    np.testing.assert_allclose(read("world/robot/cam2", "Pinhole:image_from_camera")[1][0], CAMERA.K.T.reshape(-1))
    np.testing.assert_allclose(read("world/robot/cam2", "Transform3D:translation")[1][0], (0.2, 0, 0), atol=1e-6)
    np.testing.assert_allclose(read("world/robot/scan", "Points3D:positions")[1], frames[1].frame.points[:, :3], atol=1e-6)
    np.testing.assert_allclose(read("world/robot", "Transform3D:translation")[1][0], (0.4, 0, 0), atol=1e-6)
    assert read("timings/prepare", "Scalars:scalars") == {0: [4.5], 1: [4.5]}
    layer = layers_of(frames[1])["map"]
    mine = surface_cells(layer) & (layer.labels == ROAD)
    np.testing.assert_allclose(read("world/map/road", "Boxes3D:centers")[1], layer.grid.centers_at(layer.cells[mine]), atol=1e-5)


def test_a_missing_package_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ViewError, match=r"pip install .*'occle_ros\[viewer\]'") as raised:
        RerunViewer("drive", CLASSES, [])
    assert "\n" not in str(raised.value)


def test_what_cannot_be_opened_is_one_line(monkeypatch):
    pytest.importorskip("rerun", reason="the extra [viewer] is not installed")
    viewer = RerunViewer("drive", CLASSES, [])
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform == "linux":
        with pytest.raises(ViewError, match="no display for rerun's window"):
            viewer.open_window()
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for page in (port, port - 1):  # of the page, and of its data
            with pytest.raises(ViewError, match=rf"port {port} cannot be used .*; choose another with --port"):
                viewer.serve(page)
