# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A check for each row of docs/reference/reliability.md, "Messages, calibration and parameters"; other tests go deeper."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from calibration_rig import IMAGE, by_tf, info, moved
from node_rig import CAMERA, SECOND, lively_bundle, lively_occle, sensors, write_bag, write_calibration
from tf_messages import tf_message
from typer.testing import CliRunner

from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.output_folder import new_folder
from occle_core.paths import expand_home
from occle_core.plausibility import placement_problem, view_problem
from occle_core.predictor import Predictor
from occle_core.sensors.camera_info import lens_from_info
from occle_core.sensors.clouds import points_from_cloud
from occle_core.sensors.images import decode_image
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.files import CalibrationError, find_calibration
from occle_ros.calibration.rig import Calibration
from occle_ros.cli import app
from occle_ros.config.loading import load_config
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import message_from_image
from occle_ros.pipeline.assemble import assemble, frame_mismatch
from occle_ros.pipeline.scans import read_scan
from occle_ros.sync.lidar_led import SyncedMessages

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "reliability.md"
POINTS = np.random.default_rng(0).normal(0, 9, (12, 4)).astype(np.float32)
CHECKS: dict[str, Callable[[Path], None]] = {}


def row(name: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Marks the check of a row."""

    def note(check: Callable[[Path], None]) -> Callable[[Path], None]:
        CHECKS[name] = check
        return check

    return note


@row("cloud with a `row_step` of 0 or of the whole cloud")
def _row_step(tmp_path: Path) -> None:
    message = cloud_from_points(POINTS, 0, "l")
    for message.row_step in (0, 16 * 12):
        message.height, message.width = 3, 4
        np.testing.assert_array_equal(points_from_cloud(message)[0], POINTS)


@row("cloud with less data than it declares")
def _short(tmp_path: Path) -> None:
    message = cloud_from_points(POINTS, 0, "l")
    message.data = message.data[:-1]
    with pytest.raises(ConversionError, match="truncated"):
        points_from_cloud(message)


@row("points that are not finite, or at exactly (0, 0, 0)")
def _no_returns(tmp_path: Path) -> None:
    points = POINTS.copy()
    points[0], points[1, 0] = 0, np.nan
    assert points_from_cloud(cloud_from_points(points, 0, "l"))[1] == {"no_return": 1, "not_finite": 1}


@row("points on the robot's own body")
def _body(tmp_path: Path) -> None:
    config = NodeConfig.model_validate({"lidar": {"exclude_box": [-99, -99, -99, 99, 99, 99]}})
    assert read_scan(cloud_from_points(POINTS, 0, "l"), config, np.eye(4))[1] == {"exclude_box": 12}


@row("intensities that are not 0 to 1")
def _intensities(tmp_path: Path) -> None:
    config = NodeConfig.model_validate({"camera_names": [], "T_grid_lidar": np.eye(4).ravel().tolist()})
    points = np.column_stack([POINTS[:, :3], np.linspace(0, 255, len(POINTS))]).astype(np.float32)
    rig = Calibration(config).rig("l")
    for scale, said in ((1.0, {"intensity:lidar"}), (1 / 255, set())):
        scaled = config.model_copy(update={"lidar": config.lidar.model_copy(update={"intensity_scale": scale})})
        assert set(assemble(SyncedMessages(0, cloud_from_points(points, 0, "l"), (), {}), rig, scaled).warnings) == said


@row("grid above the ground")
def _grid_above(tmp_path: Path) -> None:
    """A fifth of the points below the grid is a slope; 0.3 of them is not."""
    grid = VoxelGrid((0, -10, -1), (20, 20, 4), 1.0)
    points = np.random.default_rng(0).uniform((0, -10, -1), (20, 10, 1), (16000, 3)).astype(np.float32)
    lower = np.eye(4)
    for height, said in ((0.0, False), (-0.4, False), (-0.6, True)):
        lower[2, 3] = height
        assert bool(placement_problem(points, lower, grid)) is said


@row("camera whose pose is that of its body, not of its optical frame")
def _body_frame(tmp_path: Path) -> None:
    """A camera that looks ahead sees a tenth of a scan all around, and nothing with x forward, y left, z up."""
    rng = np.random.default_rng(0)
    azimuth, distance = rng.uniform(-np.pi, np.pi, 16000), rng.uniform(3, 40, 16000)
    points = np.column_stack([distance * np.cos(azimuth), distance * np.sin(azimuth), rng.uniform(-2, 2, 16000)]).astype(np.float32)
    K = np.array([[700.0, 0, 600], [0, 700, 180], [0, 0, 1]])
    optical = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    assert view_problem(points, Camera(K, optical, 1200, 360), "front") is None
    problem = view_problem(points, Camera(K, np.eye(4), 1200, 360), "front")
    assert problem and "the image of front: its pose is not that of the optical frame" in problem


@row("scan of which no point is left")
def _nothing_left(tmp_path: Path) -> None:
    calibration, config = by_tf(("base_link", "velodyne", moved(0)), camera_names=[])[0], NodeConfig(camera_names=())
    scan = cloud_from_points(0 * POINTS, 5, "velodyne")
    with pytest.raises(FrameError, match="no point of the scan is left: 12 no returns"):
        assemble(SyncedMessages(5, scan, (), {}), calibration.rig("velodyne", 5), config)


def _jpeg() -> bytes:
    v, u = np.mgrid[0:96, 0:640] / 160.0
    picture = np.stack([127 + 100 * np.sin(3 * u + 2 * v + phase) for phase in (0, 1.1, 2.7)], -1)
    return cv2.imencode(".jpg", picture[..., ::-1].astype(np.uint8))[1].tobytes()


@row("JPEG or PNG that is cut off, also where an end marker or zeros follow")
def _cut(tmp_path: Path) -> None:
    png = cv2.imencode(".png", IMAGE)[1].tobytes()
    for data in (_jpeg()[:1300], _jpeg()[:1300] + b"\xff\xd9", _jpeg()[:1300] + bytes(900), png[:-20]):
        with pytest.raises(ConversionError, match="cut off"):
            decode_image(data, "jpeg")


@row("JPEG with lost or overwritten data")
def _overwritten(tmp_path: Path) -> None:
    """Of this damage the codes remain valid: the picture's colour is shifted from the middle on."""
    data, half = _jpeg(), len(_jpeg()) // 2
    noise = np.random.default_rng(22).integers(0, 255, 40).astype(np.uint8).tobytes()
    with pytest.raises(ConversionError, match="brightness or colour is shifted"):
        decode_image(data[:half] + noise + data[half + 40 :], "jpeg")
    with pytest.raises(ConversionError, match="cut off or damaged"):
        decode_image(data[:half] + data[half + 512 :], "jpeg")


@row("JPEG without Huffman tables, without its end marker, or with something behind it")
def _formalities(tmp_path: Path) -> None:
    data = _jpeg()
    at, whole = data.index(b"\xff\xc4"), decode_image(data, "jpeg")
    without, end = data, data.index(b"\xff\xda")
    while at >= 0 and at < end:
        size = 2 + int.from_bytes(without[at + 2 : at + 4], "big")
        without, end = without[:at] + without[at + size :], end - size
        at = without.find(b"\xff\xc4", 0, end)
    for variant in (without, data[:-2], data + bytes(5000), data[:-2] + bytes(5000)):
        np.testing.assert_array_equal(decode_image(variant, "jpeg"), whole)


@row("CameraInfo with zeros behind its distortion coefficients")
def _zeros(tmp_path: Path) -> None:
    message = info(d=[0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert lens_from_info(message).maps is not None
    message.d = array("d", [0.1, 0, 0, 0, 0, 0, 0, 0.2])
    with pytest.raises(ConversionError, match="8 coefficients"):
        lens_from_info(message)
    assert lens_from_info(info(d=[0.0] * 8, distortion_model="")).maps is None


@row("images in another frame than their CameraInfo")
def _image_frame(tmp_path: Path) -> None:
    calibration, _ = by_tf(("base_link", "velodyne", moved(0)), ("velodyne", "cam2_optical", moved(0.1)))
    calibration.add_camera_info("cam2", info())
    scan, image = cloud_from_points(POINTS, 5, "velodyne"), message_from_image(IMAGE, 5, "cam2_link")
    result = assemble(SyncedMessages(5, scan, (image,), {}), calibration.rig("velodyne", 5), NodeConfig())
    assert result.frame.images[0] is not None
    assert result.notes == (frame_mismatch("cam2", "cam2_link", "cam2_optical"),)


@row("scans in another frame than the calibration file's `lidar_frame`")
def _foreign(tmp_path: Path) -> None:
    transforms = TransformBuffer()
    config = NodeConfig.model_validate({"calibration_file": str(write_calibration(tmp_path / "calibration.yaml"))})
    calibration = Calibration(config, transforms)
    with pytest.raises(CalibrationError, match=r"'os_lidar', but the calibration file .* 'velodyne'.*tf.lidar_frame:=velodyne"):
        calibration.rig("os_lidar", 5)
    transforms.add(tf_message("velodyne", "os_lidar", moved(0.5)), fixed=True)
    assert calibration.rig("os_lidar", 5).T_grid_lidar[0, 3] == 0.5


@row("two LiDARs on one topic")
def _two(tmp_path: Path) -> None:
    calibration, _ = by_tf(("base_link", "front", moved(2)), ("base_link", "rear", moved(-2)), camera_names=[])
    assert [calibration.rig(frame, 5).T_grid_lidar[0, 3] for frame in ("front", "rear", "front")] == [2, -2, 2]


@row("`/tf_static` sent again with other numbers")
def _again(tmp_path: Path) -> None:
    calibration, transforms = by_tf(("base_link", "velodyne", moved(0)), camera_names=[])
    assert calibration.rig("velodyne", 5).T_grid_lidar[0, 3] == 0
    transforms.add(tf_message("base_link", "velodyne", moved(1)), fixed=True)
    assert calibration.rig("velodyne", 5).T_grid_lidar[0, 3] == 1


@row("extrinsics on `/tf`")
def _on_tf(tmp_path: Path) -> None:
    calibration, transforms = by_tf(camera_names=[])
    for second in (1, 2):
        transforms.add(tf_message("base_link", "velodyne", moved(second), second * SECOND))
    assert calibration.rig("velodyne", 3 * SECOND // 2).T_grid_lidar[0, 3] == 1.5
    assert calibration.rig("velodyne", 5 * SECOND // 2).T_grid_lidar[0, 3] == 2
    with pytest.raises(CalibrationError, match="not at 3"):
        calibration.rig("velodyne", 3 * SECOND)


@row("a transform that is not finite or has no rotation")
def _impossible(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="a -> b: not a transform"):
        TransformBuffer().add(tf_message("a", "b", moved(np.nan)))


@row("`calibration_file` with a `#` in its path")
def _mark(tmp_path: Path) -> None:
    (tmp_path / "run #2").mkdir()
    assert find_calibration(str(write_calibration(tmp_path / "run #2" / "c.yaml"))).cameras


@row("no image at all, with an OccLE bundle")
def _no_image(tmp_path: Path) -> None:
    points, image = sensors(0)
    frame = Frame(5, points, [None], [CAMERA])
    occle = Predictor.load(lively_occle(tmp_path / "occle", frames=1), threads=1)
    with pytest.raises(FrameError, match="the frame has no image"):
        occle.predict(frame)
    assert occle.predict(replace(frame, images=[image])).stamp == 5
    assert Predictor.load(lively_bundle(tmp_path / "minkocc"), threads=1).predict(frame).stamp == 5


@row("parameter file of several nodes, with wildcards or namespaces")
def _sections(tmp_path: Path) -> None:
    text = "/**: {ros__parameters: {use_sim_time: true, threads: 1}}\ndriver: {ros__parameters: {mode: 1}}\n"
    (tmp_path / "x.yaml").write_text(text + "/robot/occupancy: {ros__parameters: {threads: 2}}\n")
    assert load_config(tmp_path / "x.yaml") == NodeConfig(threads=2)


@row("empty list in a parameter file")
def _empty_list(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("/**: {ros__parameters: {T_grid_lidar: [], show: {classes: []}}}\n")
    assert load_config(tmp_path / "x.yaml") == NodeConfig()


@row("misspelt parameter")
def _misspelt(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("/**: {ros__parameters: {lidar: {topik: /x}}}\n")
    with pytest.raises(ConfigError, match=r"x.yaml: unknown parameter lidar.topik; did you mean lidar.topic\?"):
        load_config(tmp_path / "x.yaml")


@row("`~` in a path")
def _home(tmp_path: Path) -> None:
    assert expand_home("~/x") == Path.home() / "x"


@row("bag of which `occle run` leaves scans, images or points out")
def _left_out(tmp_path: Path) -> None:
    bag, bundle = write_bag(tmp_path / "bag", [SECOND, 2 * SECOND], empty=(0, 1)), lively_bundle(tmp_path / "bundle")
    words = f"run --bag {bag} --bundle {bundle} --out {tmp_path / 'out'} --pictures 0 --engine torch"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 1 and "no frame was predicted" in result.stderr


@row("two `occle run` with one `--out`")
def _twice(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out"), pytest.raises(ValueError, match="another process is writing"), new_folder(tmp_path / "out"):
        pytest.fail("two at once")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CHECKS)
def test_what_the_page_says(name: str, tmp_path: Path) -> None:
    CHECKS[name](tmp_path)


def test_every_row_has_its_check() -> None:
    part = PAGE.read_text().split("### Messages, calibration and parameters", 1)[1].split("\n#", 1)[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", part, re.MULTILINE)
    assert rows[0] == "input" and sorted(rows[1:]) == sorted(CHECKS)
