# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sources of `occle view` that need ROS messages: bags of sensor messages, and recordings of the node's voxels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2

from occle_core import taxonomy
from occle_core.bags.bag_file import open_bag
from occle_core.bundle import read_spec
from occle_core.console import print_notice
from occle_core.frame import Frame, FrameError
from occle_core.predictor import Predictor
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.viewer.sources import Selection, ViewSource, dataset_source, is_results, results_source
from occle_core.viewer.view_frame import ViewError, ViewFrame
from occle_ros.bags.dataset_player import is_dataset
from occle_ros.bags.reader import BagReader
from occle_ros.calibration.files import CalibrationError
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.share_paths import resolve_bundle
from occle_ros.messages.clouds import occupancy_from_cloud
from occle_ros.pipeline.pipeline import Pipeline
from occle_ros.tools.demo_inputs import bundle_for

INPUT_TYPE = "sensor_msgs/msg/PointCloud2"


def open_source(
    path: Path,
    selection: Selection,
    bundle: Path | None = None,
    config: NodeConfig | None = None,
    kind: str | None = None,
    scene: str | None = None,
    engine: str = "torch",
) -> ViewSource:
    """Recognise and open what is to be viewed.

    Args:
        path: results of `occle run`, a data set, a bag of sensor messages, or a recording of the node's voxels.
        selection: of the frames.
        bundle: the network; None: that of the preset for the cameras.
        config: the node's configuration, for bags with other topic names.
        kind, scene: of a data set.
        engine: one of `occle_core.engines.loading.ENGINE_NAMES`.

    Raises:
        ViewError, BagError, DatasetError, CalibrationError, ConfigError, BundleError, EngineError: it cannot be opened.
    """
    chosen = resolve_bundle(str(bundle), "--bundle") if bundle else None
    if is_results(path):
        return results_source(path, selection, chosen)
    if kind or scene or is_dataset(path):
        return dataset_source(path, chosen or bundle_for(None, path, kind, scene), selection, kind, scene, engine)
    if voxels := _voxel_topic(path, config):
        return recording_source(path, voxels, selection, chosen)
    return bag_source(path, chosen or bundle_for(path, None), selection, config, engine)


def bag_source(
    bag: Path, bundle: Path, selection: Selection, config: NodeConfig | None = None, engine: str = "torch"
) -> ViewSource:
    """A bundle on a bag's sensor messages, processed as in the live node; poses are from its TF.

    Args:
        bag, config: as for `BagReader`.
        bundle: the network.
        selection: of the scans.
        engine: one of `occle_core.engines.loading.ENGINE_NAMES`.

    Raises:
        BagError, CalibrationError, ConfigError, BundleError, EngineError: it cannot start, or a message is damaged.
    """
    reader = BagReader(bag, config)
    predictor = Predictor.load(bundle, engine)
    pipeline = Pipeline(predictor, reader.config, reader.calibration, reader.poses)
    numbers = selection.numbers(len(reader))

    def frames() -> Iterator[ViewFrame]:
        for number, synced in enumerate(reader.synced()):
            if number > (numbers[-1] if numbers else -1):
                return
            if number not in numbers:
                continue
            try:
                processed = pipeline.process(synced)
            except (FrameError, ConversionError, CalibrationError) as error:
                print_notice(f"scan {synced.stamp / 1e9:.3f} is left out: {error}")
                continue
            frame = pipeline.posed_frame(synced, processed)
            yield ViewFrame.of(number, frame, reader.config.camera_names, processed.occupancy)

    cameras = tuple(reader.config.camera_names)
    title = bag.resolve().name
    return ViewSource(title, predictor.bundle_id, predictor.taxonomy, cameras, len(reader), len(numbers), frames())


def recording_source(bag: Path, topic: str, selection: Selection, bundle: Path | None) -> ViewSource:
    """Voxels that the node published, as recorded: without images, scan and poses.

    Args:
        bag: with PointCloud2 messages of voxels.
        topic: of the voxels.
        selection: of the messages.
        bundle: the network that made them: the messages name neither grid nor classes.

    Raises:
        ViewError: no bundle is given. BundleError, BagError, ConversionError: unusable input.
    """
    if bundle is None:
        raise ViewError(f"{bag} holds {topic} without the scans: give the network that made them with --bundle")
    spec = read_spec(bundle)
    grid, classes = spec.voxel_grid, taxonomy.load(spec.taxonomy)
    with open_bag(bag) as reader:
        total = reader.topics[topic].msgcount
    numbers = selection.numbers(total)

    def frames() -> Iterator[ViewFrame]:
        with open_bag(bag) as reader:
            messages = reader.messages([c for c in reader.connections if c.topic == topic])
            for number, (_, _, raw) in islice(enumerate(messages), numbers.start, numbers.stop, numbers.step):
                message = deserialize_message(raw, PointCloud2)
                occupancy = occupancy_from_cloud(message, grid, classes)
                yield ViewFrame(number, occupancy, Frame(stamp_of(message), np.zeros((0, 4), np.float32)))

    return ViewSource(bag.resolve().name, f"{topic}, {spec.name}", classes, (), total, len(numbers), frames())


def _voxel_topic(bag: Path, config: NodeConfig | None) -> str:
    """The topic of recorded voxels in a bag that has no scans; "" where it has."""
    with open_bag(bag) as reader:
        clouds = [c.topic for c in reader.connections if c.msgtype == INPUT_TYPE]
    voxels = [topic for topic in clouds if topic.endswith("/voxels")]
    return voxels[0] if voxels and len(voxels) == len(clouds) and config is None else ""
