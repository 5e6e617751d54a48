# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags of data sets: what is written, and that the frames come back."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from bag_frames import bag_frames
from dataset_files import CAMERAS, write_nuscenes
from fake_dataset import MILLISECOND, START, Rig, assert_same, content
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage

from occle_core.bags.bag_file import open_bag
from occle_core.bags.new_bag import new_bag
from occle_core.bags.storage import BagError
from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.frame import Frame
from occle_core.output_folder import OutputError
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.bags import converter as bag_module
from occle_ros.bags.converter import convert
from occle_ros.bags.reader import BagReader
from occle_ros.calibration.files import CalibrationError, read_calibration
from occle_ros.config.node_config import NodeConfig


@pytest.fixture
def rig(tmp_path, monkeypatch, smooth_image):
    """rig(stamps, suffix) -> a data set that `convert` opens whatever path it is given."""
    folder = tmp_path / "data"
    folder.mkdir()

    def make(stamps=(START, START + 100 * MILLISECOND, START + 200 * MILLISECOND), suffix=".jpg") -> Rig:
        dataset = Rig(folder, list(stamps), suffix, smooth_image)
        monkeypatch.setattr(bag_module, "open_dataset", lambda path, kind, scene: dataset)
        return dataset

    return make


def test_a_bag_of_jpegs_gives_the_halved_images_of_its_data_set(tmp_path):
    """So that the live node, `occle run --bag` and `occle run --data` show a network the same pixels."""
    pose = {"q_wxyz": [1, 0, 0, 0], "t": [0, 0, 0]}
    points = np.random.default_rng(0).uniform((-20, -20, -20, 0, 0), (20, 20, 20, 255, 31), (50, 5))
    cams = {name: {"K": np.eye(3).tolist(), "sensor2ego": pose, "ego2global": pose} for name in CAMERAS}
    drive = {"token": "t0", "timestamp_us": 0, "points": points, "lidar2ego": pose, "ego2global": pose, "cams": cams}
    root = write_nuscenes(tmp_path / "data", [drive], suffix="jpg", size=(32, 18))
    convert("nuscenes", root, tmp_path / "bag")
    (frame,) = bag_frames(tmp_path / "bag", image_size=(16, 9))
    expected = open_dataset(root, image_size=(16, 9)).frame(0)
    assert expected.images[0].shape == (9, 16, 3)
    for one, other in zip(frame.images, expected.images, strict=True):
        np.testing.assert_array_equal(one, other)
    for camera, other in zip(frame.cameras, expected.cameras, strict=True):
        np.testing.assert_allclose(camera.K, other.K)


@pytest.mark.parametrize("compressed", [None, True, False])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_bag_gives_back_the_frames_of_its_data_set(rig, tmp_path, compressed, suffix):
    dataset = rig(suffix=suffix)
    summary = convert(None, "x", tmp_path / "bag", compressed)
    is_compressed = compressed if compressed is not None else suffix == ".jpg"
    assert summary.frames == 3 and summary.messages["/lidar/points"] == 3 and not summary.notes
    assert summary.messages["/left/image/compressed" if is_compressed else "/left/image"] == 3
    reader = BagReader(tmp_path / "bag")
    frames = list(bag_frames(tmp_path / "bag"))
    assert len(reader) == len(frames) == 3 and reader.config.camera_names == ("right", "left")
    for i, frame in enumerate(frames):
        assert_same(frame, dataset.frame(i))
        frame.check()


def test_messages_are_in_order_and_images_keep_their_shutter_times(rig, tmp_path):
    dataset = rig()
    convert(None, "x", tmp_path / "bag")
    messages = content(tmp_path / "bag")
    times = [time for _, time, _ in messages]
    assert times == sorted(times) and messages[0][0] == "/tf_static"
    for topic, time, message in messages:
        if topic not in ("/tf", "/tf_static"):
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == time
    assert [time for topic, time, _ in messages if topic == "/left/image/compressed"] == [
        s - 40 * MILLISECOND for s in dataset.stamps
    ]
    frame_ids = {topic: message.header.frame_id for topic, _, message in messages if not topic.startswith("/tf")}
    assert frame_ids["/lidar/points"] == "lidar_top" and frame_ids["/left/camera_info"] == "left_optical"


def test_jpeg_files_are_passed_through_unchanged(rig, tmp_path):
    dataset = rig()
    convert(None, "x", tmp_path / "bag")
    with open_bag(tmp_path / "bag") as reader:
        connections = [c for c in reader.connections if c.topic == "/left/image/compressed"]
        messages = [deserialize_message(data, CompressedImage) for _, _, data in reader.messages(connections)]
    assert [bytes(m.data) for m in messages] == [dataset.image_file(i, "left").read_bytes() for i in range(3)]
    assert {m.format for m in messages} == {"jpeg"}


def test_transforms_connect_map_grid_lidar_and_cameras(rig, tmp_path):
    dataset = rig()
    convert(None, "x", tmp_path / "bag")
    transforms = TransformBuffer()
    for topic, _, message in content(tmp_path / "bag"):
        if topic.startswith("/tf"):
            transforms.add(message)
    np.testing.assert_allclose(transforms.lookup("base_link", "lidar_top"), dataset.T_grid_lidar, atol=1e-9)
    np.testing.assert_allclose(
        transforms.lookup("left_optical", "lidar_top"), dataset.frame(0).cameras[1].T_camera_lidar, atol=1e-9
    )
    np.testing.assert_allclose(transforms.lookup("odom", "lidar_top"), dataset.pose(2), atol=1e-9)


def test_the_calibration_file_is_what_the_node_reads(rig, tmp_path):
    dataset = rig()
    convert(None, "x", tmp_path / "bag")
    file = read_calibration(tmp_path / "bag" / "calibration.yaml")
    assert (file.lidar_frame, file.grid_frame, list(file.cameras)) == ("lidar_top", "base_link", ["right", "left"])
    np.testing.assert_array_equal(file.T_grid_lidar, dataset.T_grid_lidar)
    np.testing.assert_array_equal(file.cameras["left"].K, dataset.frame(0).cameras[1].K)


def test_a_bag_without_its_calibration_file_is_read_through_tf_static(rig, tmp_path):
    dataset = rig()
    convert(None, "x", tmp_path / "bag")
    (tmp_path / "bag" / "calibration.yaml").unlink()
    config = {"camera_names": ["left"], "cameras": {"left": {"compressed": True}}, "tf": {"grid_frame": "base_link"}}
    frame = next(bag_frames(tmp_path / "bag", NodeConfig.model_validate(config)))
    np.testing.assert_allclose(frame.T_grid_lidar, dataset.T_grid_lidar, atol=1e-9)
    np.testing.assert_allclose(frame.cameras[0].T_camera_lidar, dataset.frame(0).cameras[1].T_camera_lidar, atol=1e-9)


def test_a_missing_image_is_none_and_its_neighbours_stay_where_they_are(rig, tmp_path):
    dataset = rig(stamps=[START + i * 200 * MILLISECOND for i in range(3)])
    dataset.missing = {(1, "left")}
    convert(None, "x", tmp_path / "bag", compressed=False)
    assert [[image is not None for image in frame.images] for frame in bag_frames(tmp_path / "bag")] == [
        [True] * 2,
        [True, False],
        [True] * 2,
    ]


@pytest.mark.parametrize(
    ("stamps", "expected", "moved"),
    [
        ((START, START + 500 * MILLISECOND, START + 9500 * MILLISECOND), (0, 500, 9500), 0),
        ((START, START - 86_400_000 * MILLISECOND, START - 86_399_900 * MILLISECOND), (0, 500, 600), 2),
        ((START, START, START + 800_000_000 * MILLISECOND), (0, 500, 1000), 2),
    ],
)
def test_stamps_move_only_where_they_could_not_be_replayed(rig, tmp_path, stamps, expected, moved):
    rig(stamps=stamps)
    summary = convert(None, "x", tmp_path / "bag")
    assert [(frame.stamp - START) / MILLISECOND for frame in bag_frames(tmp_path / "bag")] == list(expected)
    assert summary.notes == ((f"the stamps of {moved} frames were shifted",) if moved else ())
    left = [(time - START) / MILLISECOND for topic, time, _ in content(tmp_path / "bag") if topic == "/left/camera_info"]
    assert left == [e - 40 for e in expected]


def test_a_bag_does_not_begin_before_time_zero(rig, tmp_path):
    rig(stamps=(0, 100 * MILLISECOND))
    convert(None, "x", tmp_path / "bag")
    assert next(time for topic, time, _ in content(tmp_path / "bag") if topic == "/left/camera_info") == 10**9


def test_a_limit_takes_the_first_frames(rig, tmp_path):
    rig()
    assert convert(None, "x", tmp_path / "bag", limit=2).frames == len(list(bag_frames(tmp_path / "bag"))) == 2
    with pytest.raises(BagError, match="no frames to write"):
        convert(None, "x", tmp_path / "bag2", limit=0)


def test_calibration_that_changes_within_the_data_set_is_reported(rig, tmp_path, monkeypatch):
    dataset = rig()
    whole = dataset.frame

    def moving(i: int) -> Frame:
        frame = whole(i)
        frame.cameras[1].T_camera_lidar[:3, 3] += frame.cameras[1].T_camera_lidar[:3, 0] * 0.2 * i  # 20 cm along x a frame
        return frame

    monkeypatch.setattr(dataset, "frame", moving)
    (note,) = convert(None, "x", tmp_path / "bag").notes
    assert note.startswith("left's calibration moves by up to 40 cm between frames")


def test_a_data_set_without_cameras_becomes_a_bag_of_scans(rig, tmp_path, monkeypatch):
    dataset = rig()
    whole = dataset.frame
    monkeypatch.setattr(dataset, "camera_names", (), raising=False)
    monkeypatch.setattr(dataset, "frame", lambda i: Frame(dataset.stamps[i], whole(i).points, T_grid_lidar=dataset.T_grid_lidar))
    assert set(convert(None, "x", tmp_path / "bag").messages) == {"/lidar/points", "/tf", "/tf_static"}
    frames = list(bag_frames(tmp_path / "bag"))
    assert [len(frame.points) for frame in frames] == [50, 51, 52] and not frames[0].images


def test_nothing_is_left_of_a_conversion_that_fails(rig, tmp_path, monkeypatch):
    dataset = rig()
    whole = dataset.frame

    def broken(i: int) -> Frame:
        if i == 2:
            raise DatasetError("000002.bin is truncated")
        return whole(i)

    monkeypatch.setattr(dataset, "frame", broken)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=r"000002.bin is truncated"):
        convert(None, "x", tmp_path / "bag")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_existing_folder_is_not_touched(rig, tmp_path):
    rig()
    (tmp_path / "bag").mkdir()
    with pytest.raises(OutputError, match="exists already and is not overwritten"):
        convert(None, "x", tmp_path / "bag")
    assert not list((tmp_path / "bag").iterdir())


def test_what_a_killed_process_left_does_not_disturb(tmp_path):
    (tmp_path / ".bag.partial" / "bag").mkdir(parents=True)
    with new_bag(tmp_path / "bag"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_a_bag_without_the_needed_topics_lists_those_that_are_there(rig, tmp_path):
    rig()
    convert(None, "x", tmp_path / "bag")
    with pytest.raises(BagError) as caught:
        BagReader(tmp_path / "bag", NodeConfig())
    text = str(caught.value)
    assert "lacks /cam2/image (sensor_msgs/msg/Image), /cam2/camera_info" in text
    assert "/left/image/compressed (sensor_msgs/msg/CompressedImage, 3 messages)" in text and "/lidar/points" in text
    with pytest.raises(CalibrationError, match="pose of the voxel grid is not known"):
        config = {"camera_names": ["left"], "cameras": {"left": {"compressed": True}}}
        BagReader(tmp_path / "bag", NodeConfig.model_validate(config))


def test_what_is_not_a_bag_is_refused(rig, tmp_path):
    with pytest.raises(BagError, match="there is no bag at"):
        BagReader(tmp_path / "nothing")
    with pytest.raises(BagError, match=r"has no metadata.yaml"):
        BagReader(tmp_path)
    rig()
    convert(None, "x", tmp_path / "bag")
    file = tmp_path / "bag" / "bag.mcap"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(BagError, match="is cut off after 5000 bytes"):
        list(bag_frames(tmp_path / "bag"))


def test_semantickitti_08_is_bagged_and_read_back(real_data, tmp_path):
    folder = real_data / "semantickitti" / "dataset" / "sequences" / "08"
    summary = convert("semantickitti", folder, tmp_path / "bag", limit=2)
    assert summary.messages == {"/tf_static": 1, "/tf": 2, "/cam2/camera_info": 2, "/cam2/image": 2, "/lidar/points": 2}
    dataset = open_dataset(folder, "semantickitti")
    for i, frame in enumerate(bag_frames(tmp_path / "bag")):
        assert_same(frame, dataset.frame(i), atol=1e-12)


def test_nuscenes_keyframes_are_bagged_and_read_back(real_data, tmp_path):
    folder = real_data / "nuscenes"
    for scene in list_scenes(folder, "nuscenes")[:2]:
        summary = convert("nuscenes", folder, tmp_path / scene, scene=scene)
        assert summary.messages["/CAM_BACK_LEFT/image/compressed"] == summary.frames == 1
        dataset = open_dataset(folder, "nuscenes", scene)
        for i, frame in enumerate(bag_frames(tmp_path / scene)):
            assert_same(frame, dataset.frame(i), atol=1e-12)


def test_the_calibration_yaml_is_plain_yaml(rig, tmp_path):
    rig()
    convert(None, "x", tmp_path / "bag")
    data = yaml.safe_load((tmp_path / "bag" / "calibration.yaml").read_text())
    assert set(data) == {"lidar_frame", "grid_frame", "T_grid_lidar", "cameras"}
    assert set(data["cameras"]["left"]) == {"T_camera_lidar", "K", "width", "height"}
