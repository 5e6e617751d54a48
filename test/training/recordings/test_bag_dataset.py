# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags as data sets: frames in any storage, motion taken out, and what does not fit named in one line."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import bag_copies
import numpy as np
import pytest
import yaml
from bag_copies import copy_bag
from scipy.spatial.transform import Rotation, Slerp

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES
from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.rig.pose import pose_matrix


def opened(recording: Path, bag: Path | None = None, **changes):
    rig = yaml.safe_load((recording / "rig.yaml").read_text())
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        place = rig
        for parent in parents:
            place = place[parent]
        place.pop(leaf) if value is None else place.__setitem__(leaf, value)
    file = recording / f"changed_{abs(hash(str(changes)))}.yaml"
    file.write_text(yaml.safe_dump(rig, sort_keys=False))
    try:
        return open_dataset(bag or recording / "bag", rig=file)
    finally:
        file.unlink()


def messages(bag, topic):
    with open_bag(bag) as reader:
        wanted = [each for each in reader.connections if each.topic == topic]
        return [TYPES.deserialize_cdr(data, each.msgtype) for each, _, data in reader.messages(wanted)]


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_frames_of_a_bag(recording):
    dataset = open_dataset(recording / "bag", rig=recording / "rig.yaml")
    assert list_scenes(recording / "bag") == ["bag"] and dataset.kind == "bag" and dataset.notes == ()
    assert len(dataset) == 8 and dataset.numbers == list(range(8)) and set(np.diff(dataset.stamps)) == {100_000_000}
    frame = dataset.frame(3)
    frame.check()
    assert [image.shape for image in frame.images] == [(96, 144, 3), (96, 144, 3), (144, 192, 3)]
    scan = dataset.merged_scan(3)
    assert set(scan.sensor) == {0, 1} and not scan.masked and np.array_equal(scan.points, frame.points)
    # The stamp is the start of the first LiDAR's turn of 0.1 s; the second begins 30 ms later.
    for sensor, first in ((0, 0.0), (1, 0.03)):
        own = scan.time[scan.sensor == sensor]
        assert abs(own.min() - first) < 0.005 and abs(own.max() - first - 0.1) < 0.005
    assert dataset.taxonomy.name == "own_rig_classes" and dataset.point_labels(3) is None and not dataset.has_truth(3)


def test_jpegs_of_a_bag_are_halved_where_that_is_enough(recording):
    def read(size):
        return open_dataset(recording / "bag", rig=recording / "rig.yaml", image_size=size).frame(3)

    full, half = read(None), read((72, 48))
    half.check()
    sizes = {name: (image.shape, other.shape) for name, image, other in zip("abc", full.images, half.images)}
    assert any(other[0] == whole[0] // 2 for whole, other in sizes.values()), sizes
    for camera, original in zip(half.cameras, full.cameras):
        np.testing.assert_allclose(camera.K, original.resized(camera.width, camera.height).K)
        np.testing.assert_allclose(camera.T_camera_lidar, original.T_camera_lidar)


def test_motion_is_taken_out(recording):
    """Every point of both LiDARs, from the messages and scipy's interpolation of the odometry; without it they are elsewhere."""
    dataset = open_dataset(recording / "bag", rig=recording / "rig.yaml")
    odometry = messages(recording / "bag", "/odom")
    stamps = np.array([stamp_of(each) for each in odometry]) - dataset.stamps[4]
    places = np.array([[getattr(each.pose.pose.position, axis) for axis in "xyz"] for each in odometry])
    turns = Rotation.from_quat([[getattr(each.pose.pose.orientation, axis) for axis in "xyzw"] for each in odometry])
    slerp = Slerp(stamps, turns)

    def base_at(times):
        return slerp(times).as_matrix(), np.stack([np.interp(times, stamps, places[:, axis]) for axis in range(3)], 1)

    scan, T_base_lead = dataset.merged_scan(4), dataset.T_grid_lidar
    for number, (name, lidar) in enumerate(dataset.rig.lidars.items()):
        cloud = messages(recording / "bag", lidar.topic)[4]
        rows = np.frombuffer(cloud.data.tobytes(), np.dtype("<f4, <f4, <f4, <f4, <u4, <u2, <u2"))
        points = np.stack([rows["f0"], rows["f1"], rows["f2"]], 1).astype(np.float64)
        at_base = points @ lidar.T_base_lidar[:3, :3].T + lidar.T_base_lidar[:3, 3]
        R, t = base_at(stamp_of(cloud) - dataset.stamps[4] + rows["f4"].astype(np.int64))
        R0, t0 = (each[0] for each in base_at(np.array([0])))
        still = (np.einsum("nij,nj->ni", R, at_base) + t - t0) @ R0
        expected = (still - T_base_lead[:3, 3]) @ T_base_lead[:3, :3]
        found = scan.points[scan.sensor == number, :3]
        assert len(found) == len(expected) and np.abs(found - expected).max() < 0.01, name
        skewed = (at_base - T_base_lead[:3, 3]) @ T_base_lead[:3, :3]
        assert np.abs(found - skewed).max() > 0.1


@pytest.mark.parametrize("storage", ["as_sqlite", "as_compressed_mcap", "as_ros1"])
def test_every_storage_gives_the_same_frames(recording, tmp_path, storage):
    bag = getattr(bag_copies, storage)(recording / "bag", tmp_path / "copy")
    one, other = open_dataset(recording / "bag", rig=recording / "rig.yaml"), open_dataset(bag, rig=recording / "rig.yaml")
    assert one.stamps == other.stamps
    for i in (5, 0):
        a, b = one.frame(i), other.frame(i)
        assert np.array_equal(a.points, b.points) and np.allclose(a.T_world_lidar, b.T_world_lidar, atol=1e-12)
        assert all(np.array_equal(x, y) for x, y in zip(a.images, b.images))


def test_a_single_file_and_another_process(recording):
    (file,) = (recording / "bag").glob("*.mcap")
    one, other = open_dataset(file, rig=recording / "rig.yaml"), open_dataset(recording / "bag", rig=recording / "rig.yaml")
    one.frame(0)
    copied = pickle.loads(pickle.dumps(one))
    assert np.array_equal(copied.frame(2).points, other.frame(2).points)


def test_poses_and_lenses_come_from_the_bag(recording):
    """TF and CameraInfo hold what the rig file held, which is taken out of it."""
    whole = open_dataset(recording / "bag", rig=recording / "rig.yaml")
    sensors = {f"lidars__{name}__pose": None for name in whole.rig.lidars}
    sensors |= {f"cameras__{name}__{field}": None for name in whole.rig.cameras for field in ("pose", "lens", "width", "height")}
    bare = opened(recording, **sensors, odometry={"frame": "odom"})
    for name in whole.camera_names:
        assert (
            np.allclose(bare.camera(name).K, whole.camera(name).K)
            and bare.rig.cameras[name].lens.model == whole.rig.cameras[name].lens.model
        )
        assert np.allclose(bare.camera(name).T_camera_lidar, whole.camera(name).T_camera_lidar, atol=1e-9)
    assert np.allclose(bare.T_grid_lidar, whole.T_grid_lidar, atol=1e-9)
    assert np.allclose(bare.pose(4), whole.pose(4), atol=1e-6)
    assert np.abs(bare.frame(4).points - whole.frame(4).points).max() < 1e-3


def test_a_body_box_is_taken_out(recording):
    box = [-1.0, -1.0, -1.0, 3.0, 1.0, 2.0]
    points = opened(recording, lidars__top__exclude_box=box).points(2)  # the leading one's is the robot's, whichever LiDAR sees it
    both = opened(recording, lidars__top__exclude_box=box, lidars__rear__exclude_box=box).points(2)
    assert np.array_equal(points, both)
    base = points[:, :3] @ pose_matrix(0.3, 0.1, 1.25, 2, 8, 15)[:3, :3].T + [0.3, 0.1, 1.25]
    inside = ((base > np.array(box[:3]) + 0.2) & (base < np.array(box[3:]) - 0.2)).all(axis=1)
    assert not inside.any() and len(points) < len(open_dataset(recording / "bag", rig=recording / "rig.yaml").points(2))


FAULTS = {
    "a topic that is not there": ({"cameras__left__topic": "/gone"}, r"no topic /gone \(cameras\.left\.topic .* it has /front/"),
    "no such lidar": ({"lidars__top__topic": "/gone"}, r"\(lidars\.top\.topic .* it has /rear/points, /top/points; `occle rig"),
    "compressed or not": ({"cameras__left__compressed": False}, r"CompressedImage, .*set cameras\.left\.compressed: true"),
    "an image for a cloud": ({"lidars__top__topic": "/right/camera_info"}, "not sensor_msgs/msg/PointCloud2; let the driver"),
    "a lidar twice": ({"lidars__top__topic": "/rear/points"}, "two sensors have the topic"),
    "no field": ({"lidars__top__beam": 1}, "did you mean beams"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_rig_that_names_what_is_not_there(recording, case):
    changes, message = FAULTS[case]
    with pytest.raises(DatasetError, match=message) as caught:
        opened(recording, **changes)
    assert "\n" not in str(caught.value)


def later(topic, nanoseconds):
    def change(name, message):
        if name != topic:
            return message
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec + nanoseconds
        time = replace(message.header.stamp, sec=stamp // 10**9, nanosec=stamp % 10**9)
        return replace(message, header=replace(message.header, stamp=time))

    return change


def test_recordings_that_lack_something(recording, tmp_path):
    no_tf = copy_bag(recording / "bag", tmp_path / "no_tf", drop=("/tf",))
    bare = {
        "lidars__top__pose": None,
        "lidars__rear__pose": None,
        **{f"cameras__{n}__pose": None for n in ("left", "right", "front")},
    }
    with pytest.raises(
        DatasetError, match=r"no transform from 'top_lidar' to 'base_link'.*; give lidars\.top\.pose in .*record /tf_static"
    ):
        opened(recording, no_tf, **bare)
    assert opened(recording, no_tf).pose(3) is not None  # the rig has the mountings, /odom the motion
    without = opened(recording, no_tf, odometry={"frame": "odom"})
    assert without.pose(3) is None and "set odometry.topic (nav_msgs/Odometry) or odometry.frame" in without.notes[0]
    without.frame(3).check()
    no_info = copy_bag(recording / "bag", tmp_path / "no_info", drop=("/left/camera_info",))
    with pytest.raises(DatasetError, match=r"no CameraInfo on /left/camera_info: give cameras\.left\.lens, width and height"):
        opened(recording, no_info, cameras__left__lens=None)
    clocks = copy_bag(recording / "bag", tmp_path / "clocks", change=later("/right/image", 7_200_000_000_000))
    with pytest.raises(
        DatasetError, match=r"/right/image has another clock than /top/points.*time_offset_ms to about -72000\d\d in"
    ) as caught:
        opened(recording, clocks)
    assert "\n" not in str(caught.value)
    assert opened(recording, clocks, cameras__right__time_offset_ms=-7_200_000.0).frame(2).images[1] is not None
    with pytest.raises(DatasetError, match=r"need a rig file, `occle rig .* -o rig.yaml` drafts one"):
        open_dataset(no_tf)


def test_a_topic_that_stops_is_masked(recording, tmp_path):
    start = open_dataset(recording / "bag", rig=recording / "rig.yaml").stamps[0]

    def stopped(topic, message):
        if topic == "/rear/points" and message.header.stamp.sec * 10**9 + message.header.stamp.nanosec > start + 250_000_000:
            return None
        return message

    dataset = opened(recording, copy_bag(recording / "bag", tmp_path / "stops", change=stopped))
    assert dataset.merged_scan(1).masked == {} and dataset.merged_scan(6).masked == {"rear": "out_of_tolerance"}
    assert set(dataset.merged_scan(6).sensor) == {0}


def test_intensities_of_another_scale_are_said_once_a_topic(recording, caplog):
    """The recording's are 0 to 1: with a factor of 255 they are what a forgotten one leaves of 0 to 255."""
    with caplog.at_level(logging.WARNING):
        dataset = opened(recording, lidars__top__intensity_scale=255.0)
        for i in range(3):
            dataset.points(i)
    said = [record.getMessage() for record in caplog.records if "intensities" in record.getMessage()]
    assert len(said) == 1 and said[0].endswith("set its intensity_scale to 1"), said
