# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A raw data set folder as topics, and the whole graph of the launch file where `launch` is installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_rig import lively_bundle, sensors
from rclpy.serialization import deserialize_message
from ros_process import wait_for_size
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from small_kitti import write_sequence
from typer.testing import CliRunner

from occle_core.bags.bag_file import open_bag
from occle_core.datasets import open_dataset
from occle_core.sensors.clouds import points_from_cloud
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import stamp_of
from occle_ros.bags import dataset_player
from occle_ros.bags.dataset_messages import DatasetMessages
from occle_ros.bags.player import PlayOptions, PlaySummary
from occle_ros.cli import app

ROOT = Path(__file__).resolve().parents[3]


def test_messages_hold_what_is_on_disk(tmp_path: Path) -> None:
    source = DatasetMessages(open_dataset(write_sequence(tmp_path, 3)))
    assert source.topics["/cam2/image"] == "sensor_msgs/msg/Image"
    chosen = ["/lidar/points", "/cam2/image", "/cam2/camera_info"]
    messages = list(source.messages(chosen))
    assert [stamp for stamp, _, _ in messages] == sorted(stamp for stamp, _, _ in messages)
    assert len(messages) == 9
    kinds = dict(zip(chosen, (PointCloud2, Image, CameraInfo)))
    for number in range(3):
        points, image = sensors(number)
        read = {topic: deserialize_message(data, kinds[topic]) for _, topic, data in messages[3 * number : 3 * number + 3]}
        assert {stamp_of(message) for message in read.values()} == {number * 100_000_000}
        np.testing.assert_array_equal(points_from_cloud(read["/lidar/points"])[0], points)
        np.testing.assert_array_equal(image_from_message(read["/cam2/image"]), image)
        assert read["/cam2/camera_info"].width == 160


@pytest.mark.ros
def test_the_folder_is_played(ros_domain: int, start: Any, tmp_path: Path) -> None:
    root = write_sequence(tmp_path / "kitti", 4)
    topic = "/lidar/points=sensor_msgs/msg/PointCloud2"
    recorder = start("-m", "occle_ros.cli", "record", tmp_path / "bag", topic)
    recorder.wait_for("recording")
    player = start("-m", "occle_ros.cli", "play", root, "--loop", "--wait-for", "/lidar/points", "--raw")
    wait_for_size(tmp_path / "bag", 9 * 48_000)  # two rounds of scans
    player.interrupt()
    assert player.result(12) == 0, player.output
    recorder.interrupt()
    assert recorder.result(30) == 0, recorder.output
    with open_bag(tmp_path / "bag") as reader:
        stamps = [stamp_of(deserialize_message(data, PointCloud2)) for _, _, data in reader.messages()]
    assert len(stamps) >= 8 and stamps == ([number * 100_000_000 for number in (0, 1, 2, 3)] * len(stamps))[: len(stamps)]


@pytest.mark.parametrize(
    ("count", "words", "played", "notice"),
    [
        (1, [], "00", ""),
        (3, [], "00", "holds 3 sequences: 00, 01, 02; playing 00; choose another with --scene\n"),
        (
            12,
            [],
            "00",
            "holds 12 sequences: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09, ...; playing 00; choose another with --scene\n",
        ),
        (3, ["--scene", "02"], "02", ""),
    ],
)
def test_the_sequence_that_is_played_is_named_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, words: list[str], played: str, notice: str
) -> None:
    for number in range(count):
        write_sequence(tmp_path, 1, f"{number:02d}")
    sources: list[DatasetMessages] = []

    def play(source: DatasetMessages, options: PlayOptions) -> PlaySummary:
        sources.append(source)
        return PlaySummary({}, {}, (), 0.0, 0.0, False)

    monkeypatch.setattr(dataset_player, "play_source", play)
    result = CliRunner().invoke(app, ["play", str(tmp_path), *words])
    assert result.exit_code == 0 and result.stderr == (f"{tmp_path} {notice}" if notice else "")
    assert [source.dataset.name for source in sources] == [played]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "there is no bag or data set at"),
        (["none", "--kind", "kitti"], "does not exist"),
        (["empty"], "is not a data set that occle knows: it is empty"),
        (["kitti", "--scene", "11"], "has no sequence '11'; it has 08"),
        (["bag", "--scene", "08"], "--raw are for data sets, and"),
        (["bag", "--limit", "3"], "--raw are for data sets, and"),
        (["bag", "--raw"], "--raw are for data sets, and"),
    ],
)
def test_a_path_that_cannot_be_played(tmp_path: Path, words: list[str], message: str, ros_domain: int) -> None:
    write_sequence(tmp_path / "kitti", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").touch()
    result = CliRunner().invoke(app, ["play", str(tmp_path / words[0]), *words[1:]])
    assert result.exit_code and message in result.stderr and "Traceback" not in result.output


@pytest.mark.ros
@pytest.mark.timeout(120)
@pytest.mark.skipif(
    not (importlib.util.find_spec("launch") and importlib.util.find_spec("launch_ros")),
    reason="launch and launch_ros are not installed (they have no PyPI wheel; a ROS 2 installation has them)",
)
def test_the_launch_file_brings_voxels_out_of_a_folder(ros_domain: int, start: Any, tmp_path: Path) -> None:
    prefix = installed(tmp_path / "prefix")
    root, bundle = write_sequence(tmp_path / "kitti", 3), lively_bundle(tmp_path / "bundle")
    recorder = start("-m", "occle_ros.cli", "record", tmp_path / "bag", "/occupancy/voxels=sensor_msgs/msg/PointCloud2",
                     "--idle-timeout=10", seconds=100)  # fmt: skip
    recorder.wait_for("recording")
    arguments = [f"dataset:={root}", f"bundle:={bundle}", "rate:=0.1"]
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys\n"
        f"os.environ['ROS_LOG_DIR'] = {str(tmp_path / 'log')!r}\n"
        f"os.environ['AMENT_PREFIX_PATH'] = {str(prefix)!r} + os.pathsep + os.environ.get('AMENT_PREFIX_PATH', '')\n"
        "from launch import LaunchDescription, LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        f"source = PythonLaunchDescriptionSource({str(ROOT / 'launch' / 'occupancy.launch.py')!r})\n"
        f"given = [tuple(text.split(':=')) for text in {arguments!r}]\n"
        "service = LaunchService(noninteractive=True)  # SIGINT comes to it alone, not to its children\n"
        "service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)]))\n"
        "sys.exit(service.run())\n"
    )
    launched = start(script, seconds=100)
    assert recorder.result(90) == 0, launched.output
    launched.interrupt()
    assert launched.result(10) == 0, launched.output
    assert "ready: bundle minkocc-tiny-kitti" in launched.output


def installed(prefix: Path) -> Path:
    """What `colcon build` makes of the package, as far as the launch file looks for it."""
    marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / "occle_ros"
    executable = prefix / "lib" / "occle_ros" / "occupancy_node"
    for file in (marker, executable, prefix / "share" / "occle_ros" / "package.xml"):
        file.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for name in ("package.xml", "config"):
        os.symlink(ROOT / name, prefix / "share" / "occle_ros" / name)
    executable.write_text(f"#!{sys.executable}\nimport sys\nfrom occle_ros.node.process import main\nsys.exit(main(sys.argv))\n")
    executable.chmod(0o755)
    return prefix
