# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures show voxels where a projection and a ray cast say that they are."""

from __future__ import annotations

import numpy as np
import pytest

from occle_core import taxonomy
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.pictures import legend, overlay, panel, perspective, top_view
from occle_core.pictures.faces import draw_faces, voxel_faces
from occle_core.pictures.vehicle import ground_height

KITTI = taxonomy.load("semantickitti")
GRID = VoxelGrid((0.0, -6.4, -2.0), (40, 32, 12), 0.4)
ROAD, CAR = KITTI.id("road"), KITTI.id("car")
LOOKING_AHEAD = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1.0]])
CAMERA = Camera(np.array([[150.0, 0, 99.5], [0, 150, 59.5], [0, 0, 1]]), LOOKING_AHEAD, 200, 120)


def street():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, :, 0] = ROAD
    labels[15:20, 18:22, 1:4] = CAR
    labels[30:, :4, 2:9] = KITTI.id("building")
    return labels


def test_each_pixel_of_the_drawing_is_the_voxel_that_its_ray_meets():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(GRID.shape) < 0.05, rng.integers(1, 20, GRID.shape), 0).astype(np.uint8)
    labels[:4] = 0
    camera = CAMERA.resized(800, 480)
    faces = voxel_faces(labels, GRID, KITTI, camera.position)  # not lit: class colours, only darkened in creases
    layer = draw_faces(faces, camera, GRID)
    hits = cast(GRID, labels != 0, camera.position, camera.rays().reshape(-1, 3))
    hit = hits.hit.reshape(480, 800)
    covered = layer[..., 3] > 127
    agree = [
        (np.roll(covered, (dy, dx), (0, 1)) == hit)[2:-2, 2:-2].mean() for dy, dx in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    ]
    assert agree[0] > 0.985 and agree[0] == max(agree)  # outlines touch a quarter of a pixel more
    both = hit & (layer[..., 3] == 255)
    colors = KITTI.colors[labels[tuple(hits.cell.T)]].reshape(480, 800, 3)[both]
    assert both.mean() > 0.5 and (cosine(colors, layer[both][:, :3]) > 0.99).mean() > 0.95


def cosine(one, other):
    """How alike colours (N, 3) are but for their brightness."""
    one, other = one.astype(float), other.astype(float)
    return (one * other).sum(1) / np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1), 1)


@pytest.mark.parametrize("shift", [(0, 0, 0), (0.9, 0.0, 1.8)])
def test_overlay_colours_the_car_where_the_camera_sees_it(shift):
    image = np.full((120, 200, 3), 128, np.uint8)
    T_grid_lidar = np.eye(4)
    T_grid_lidar[:3, 3] = shift
    grid = VoxelGrid(tuple(np.array(GRID.origin) + shift), GRID.shape, GRID.resolution)
    picture = overlay(image, CAMERA, street(), grid, KITTI, T_grid_lidar)
    assert picture.shape == image.shape and picture.dtype == np.uint8
    (uv,), _, visible = CAMERA.project(np.array([[6.0, 1.6, -0.9]]))  # the middle of the car's rear side, LiDAR frame
    assert visible.all()
    red, _, blue = picture[round(uv[1]), round(uv[0])].astype(int)
    assert blue > red + 30
    (uv,), _, _ = CAMERA.project(np.array([[9.0, -1.0, -1.6]]))
    red, green, blue = picture[round(uv[1]), round(uv[0])].astype(int)
    assert red > green + 60 and blue > green + 60
    assert (picture[:30, :100] == 128).all()  # the sky is untouched


def test_free_and_unknown_cells_are_not_drawn():
    image = np.full((120, 200, 3), 77, np.uint8)
    empty = np.zeros(GRID.shape, np.uint8)
    empty[::2] = 255
    assert (overlay(image, CAMERA, empty, GRID, KITTI, np.eye(4)) == 77).all()
    nothing = np.zeros(GRID.shape, np.uint8)
    assert (perspective(empty, GRID, KITTI) == perspective(nothing, GRID, KITTI)).all()
    assert (top_view(empty, GRID, KITTI) == top_view(nothing, GRID, KITTI)).all()


def test_the_top_view_has_x_up_and_y_to_the_left():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[36:, 28:, 3] = CAR  # far ahead, on the left
    picture = top_view(labels, GRID, KITTI)
    rows, columns = np.nonzero(picture[..., 2].astype(int) > picture[..., 0].astype(int) + 40)
    assert len(rows) > 1000
    assert rows.max() < picture.shape[0] * 0.4 and columns.max() < picture.shape[1] * 0.4


def test_the_top_view_shows_the_highest_voxel():
    labels = street()
    below = top_view(labels, GRID, KITTI)
    labels[10:30, 10:20, 11] = KITTI.id("vegetation")
    changed = (top_view(labels, GRID, KITTI) != below).any(axis=2)
    pixels = round(600 / 40) ** 2
    assert changed.sum() >= 20 * 10 * pixels


def test_the_perspective_shows_ground_in_its_colour_and_left_on_the_left():
    labels = np.full(OCC3D_NUSCENES.shape, 17, np.uint8)
    occ3d = taxonomy.load("occ3d-nuscenes")
    empty = perspective(labels, OCC3D_NUSCENES, occ3d)
    assert empty.shape == (600, 960, 3)
    labels[90:110, 150:, 3:8] = occ3d.id("manmade")
    _, columns = np.nonzero((perspective(labels, OCC3D_NUSCENES, occ3d) != empty).any(axis=2))
    assert len(columns) > 2000 and np.median(columns) < 480


def test_the_perspective_of_prediction_and_truth_have_one_viewpoint():
    one, other = street(), street()
    other[15:20, 18:22, 1:4] = 0
    first, second = perspective(one, GRID, KITTI, 480, 300), perspective(other, GRID, KITTI, 480, 300)
    assert 0 < (first != second).any(axis=2).mean() < 0.2


def test_the_ground_is_found_near_the_vehicle():
    assert ground_height(street() != 0, GRID) == pytest.approx(-1.6)
    assert ground_height(np.zeros(GRID.shape, bool), GRID) is None


def test_the_legend_names_present_classes_in_as_many_rows_as_it_needs():
    labels = np.array([0, ROAD, CAR, 255], np.uint8)
    picture = legend([labels], KITTI, 500)
    for entry in (ROAD, CAR):
        assert (picture == KITTI.colors[entry]).all(axis=2).sum() > 100
    assert not (picture == KITTI.colors[KITTI.id("fence")]).all(axis=2).any()
    everything = np.arange(20, dtype=np.uint8)
    assert legend([everything], KITTI, 500).shape[0] > legend([everything], KITTI, 3000).shape[0] == picture.shape[0]
    assert legend([labels[:1]], KITTI, 500).shape[1] == 500


def test_a_panel_fills_its_width_in_every_row():
    red, blue = np.full((60, 200, 3), (255, 0, 0), np.uint8), np.full((90, 90, 3), (0, 0, 255), np.uint8)
    page = panel(
        [[("camera", red)], [("prediction", blue), ("truth", blue)]], width=700, footer=legend([np.array([CAR])], KITTI, 650)
    )
    assert page.shape[1] == 700
    assert (page == (255, 0, 0)).all(axis=2).sum(axis=1).max() == 680
    assert (page == (0, 0, 255)).all(axis=2).sum(axis=1).max() == 670


def test_wrong_input_is_refused():
    image = np.zeros((120, 200, 3), np.uint8)
    with pytest.raises(ValueError, match="camera makes"):
        overlay(image[1:], CAMERA, street(), GRID, KITTI, np.eye(4))
    with pytest.raises(ValueError, match="grid's"):
        overlay(image, CAMERA, street()[1:], GRID, KITTI, np.eye(4))
    with pytest.raises(ValueError, match="label 30 is not a class"):
        top_view(np.full(GRID.shape, 30, np.uint8), GRID, KITTI)
    with pytest.raises(ValueError, match="at least one"):
        panel([[]])
    with pytest.raises(ValueError, match="uint8"):
        panel([[("depth", np.zeros((4, 4)))]])


def test_on_a_real_frame_labelled_points_lie_on_voxels_of_their_colour(real_data):
    """The voxels of a scan, drawn into its image, cover the pixels to which the scan's points project."""
    folder = real_data / "semantickitti/dataset/sequences/08"
    scan = sorted((folder / "velodyne").glob("*.bin"))[0]
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    raw = np.fromfile(folder / "labels" / f"{scan.stem}.label", np.uint32) & 0xFFFF
    lines = dict(line.split(":") for line in (folder / "calib.txt").read_text().splitlines() if ":" in line)
    T_camera_lidar = np.vstack([np.array(lines["Tr"].split(), float).reshape(3, 4), (0, 0, 0, 1)])
    camera = Camera.from_projection(np.array(lines["P2"].split(), float), T_camera_lidar, 1226, 370)
    grid = VoxelGrid((0.0, -25.6, -2.0), (128, 128, 16), 0.4)
    classes = KITTI.points_from_raw(raw)
    cells, inside = grid.index(points)
    known = inside & (classes != 255)
    labels = np.zeros(grid.shape, np.uint8)
    labels[tuple(cells[known].T)] = classes[known]
    black = np.zeros((370, 1226, 3), np.uint8)
    picture = overlay(black, camera, labels, grid, KITTI, np.eye(4), alpha=1.0)
    uv, _, visible = camera.project(points)
    shown = known & visible & (labels[tuple(cells.T)] == classes)
    column, row = np.round(uv[shown]).astype(int).T
    found = picture[row, column]
    assert (found.sum(axis=1) > 0).mean() > 0.99
    assert (
        cosine(found, KITTI.colors[classes[shown]]) > 0.98
    ).mean() > 0.85  # the rest lies behind the coarse cells of something nearer
