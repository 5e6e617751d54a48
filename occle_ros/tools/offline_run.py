# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle run`: prediction of every frame of a bag or a data set, without dropping any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from occle_core.atomic_file import atomic_write, write_json
from occle_core.bags.new_bag import offered_qos
from occle_core.bags.storage import TYPES
from occle_core.bags.writer import BagWriter
from occle_core.datasets import Dataset, open_dataset
from occle_core.datasets.completeness import require_frames
from occle_core.frame import Frame, FrameError
from occle_core.mapping import MapConfig
from occle_core.occupancy import Occupancy
from occle_core.output_folder import new_folder
from occle_core.plausibility import frame_warnings
from occle_core.predictor import Predictor
from occle_core.sensors.messages import ConversionError
from occle_ros.bags.reader import BagReader
from occle_ros.calibration.files import CalibrationError
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.rig_parameters import rig_classes
from occle_ros.mapping.run_map import RunMap
from occle_ros.messages.clouds import cloud_from_occupancy
from occle_ros.messages.markers import marker_array
from occle_ros.pipeline.assemble import AssembledFrame
from occle_ros.pipeline.pipeline import Pipeline, ProcessedFrame, count_losses
from occle_ros.pipeline.statistics import Statistics, percentiles
from occle_ros.tools.snapshots import evenly_spaced, write_snapshots

VOXELS, MARKERS = "/occupancy/voxels", "/occupancy/markers"
ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class RunSummary:
    """Result of an offline run.

    Args:
        out: the folder that was written.
        bundle: id of the network.
        frames: number of frames that were predicted.
        failed: "stamp: error" of each frame that failed.
        counts: by group and reason as on /diagnostics: masked (cameras and LiDARs), synchronizer (scans and images), points,
            deskew, overflow, history, map.
        notes: of the rig, and for each masked camera and reason the first problem.
        stages_ms: per stage, median and 95th percentile, milliseconds.
    """

    out: str
    bundle: str
    frames: int
    failed: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    stages_ms: dict[str, dict[str, float]]


@dataclass
class _Losses:
    """Failed frames, counters and notes of a run."""

    failed: list[str] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    notes: dict[str, str] = field(default_factory=dict)  # by subject

    def add(self, processed: ProcessedFrame) -> None:
        """Add the losses of a frame."""
        count_losses(processed, self.statistics)
        for note in (*processed.assembled.notes, processed.assembled.pose_problem):
            self.notes.setdefault(note, note)
        for subject, warning in processed.assembled.warnings.items():
            self.notes.setdefault(subject, warning)
        for found in processed.assembled.found:
            self.notes.setdefault(found, found)
        if why := processed.assembled.deskew:
            self.notes.setdefault(f"deskew:{why}", f"scans are not compensated for motion: {processed.assembled.deskew_problem}")
        for name, problem in processed.assembled.problems.items():
            self.notes.setdefault(f"{name}:{processed.assembled.masked.get(name)}", f"{name} is masked: {problem}")


@dataclass(frozen=True)
class _Prediction:
    number: int
    frame: Frame
    occupancy: Occupancy
    truth: np.ndarray[Any, np.dtype[np.uint8]] | None


def run_bag(bag: Path, bundle: Path, out: Path, config: NodeConfig | None = None, limit: int | None = None,
            pictures: int = 0, on_progress: ProgressCallback | None = None, engine: str = "torch") -> RunSummary:  # fmt: skip
    """Predict every frame of a bag, with the conversion and synchronisation of the live node.

    Args:
        bag: a rosbag2 folder or file.
        bundle: the network's folder.
        out: folder to create, atomically: frames/NNNNNN.npz (labels, confidence, stamp, grid), occupancy.mcap with the node's
            messages, pictures/*.png, map.occlemap where frames have poses, summary.json.
        config: the node's configuration; None: derived from the bag's topics.
        limit: maximum number of frames.
        pictures: number of frames, evenly spaced, to draw pictures of.
        on_progress: called with (frames done, total).
        engine: one of `occle_core.engines.loading.ENGINE_NAMES`.

    Raises:
        BagError, CalibrationError, ConfigError, BundleError, EngineError: the run cannot start. Frames that fail are listed in the
            summary.
    """
    with new_folder(out) as folder:
        reader = BagReader(bag, config)
        predictor = Predictor.load(bundle, engine, classes=rig_classes(reader.config.rig))
        pipeline = Pipeline(predictor, reader.config, reader.calibration, reader.poses)
        count = len(reader) if limit is None else min(limit, len(reader))

        def predictions(losses: _Losses) -> Iterator[_Prediction]:
            for number, synced in zip(range(count), reader.synced()):
                try:
                    processed = pipeline.process(synced)
                except (FrameError, ConversionError, CalibrationError) as error:
                    losses.failed.append(f"{synced.stamp / 1e9:.3f}: {error}")
                    continue
                losses.add(processed)
                yield _Prediction(number, pipeline.posed_frame(synced, processed), processed.occupancy, None)
            for reason, messages in reader.synchronizer_counts.items():
                losses.statistics.count("synchronizer", reason, messages)

        world = reader.config.map.constants(predictor.grid.resolution), reader.poses.world_frame or reader.config.tf.world_frame
        names = reader.config.camera_names
        return _run(folder, out, predictor.bundle_id, names, count, predictions, pictures, on_progress, world)


def run_dataset(path: Path, bundle: Path, out: Path, kind: str | None = None, scene: str | None = None,
                limit: int | None = None, pictures: int = 0, on_progress: ProgressCallback | None = None,
                engine: str = "torch") -> RunSummary:  # fmt: skip
    """Predict every frame of a data set on disk; pictures include the ground truth where the data set has it.

    Args:
        path, kind, scene: as for `occle_core.datasets.open_dataset`.
        bundle, out, limit, pictures, on_progress, engine: as for `run_bag`.

    Raises:
        DatasetError, BundleError, EngineError: the run cannot start, or a file is missing or damaged. Frames that only the
            network rejects are listed in the summary.
    """
    with new_folder(out) as folder:
        open_dataset(path, kind, scene)  # a wrong path is reported before an engine is built
        predictor = Predictor.load(bundle, engine)
        dataset: Dataset = open_dataset(path, kind, scene, image_size=predictor.image_size)
        count = len(dataset) if limit is None else min(limit, len(dataset))
        require_frames((dataset, i) for i in range(count))

        def predictions(losses: _Losses) -> Iterator[_Prediction]:
            for number in range(count):
                frame = dataset.frame(number)
                predictor.recall(dataset, number)
                try:
                    occupancy = predictor.predict(frame, dataset.grid_frame)
                except FrameError as error:
                    losses.failed.append(f"frame {number}: {error}")
                    continue
                masked = [name for name, image in zip(dataset.camera_names, frame.images) if image is None]
                warnings = frame_warnings(frame, predictor.grid, dataset.camera_names)
                losses.add(ProcessedFrame(AssembledFrame(frame, dict.fromkeys(masked, "no_image"), warnings=warnings), occupancy))
                with_truth = number in evenly_spaced(count, pictures) and dataset.taxonomy.name == predictor.taxonomy.name
                yield _Prediction(number, frame, occupancy, dataset.truth(number, predictor.grid) if with_truth else None)

        # `occle bag` publishes a data set's poses in that frame.
        constants = MapConfig.of_cells(predictor.grid.resolution)
        world, names = (constants, NodeConfig().tf.world_frame), dataset.camera_names
        return _run(folder, out, predictor.bundle_id, names, count, predictions, pictures, on_progress, world)


def save_occupancy(path: Path, occupancy: Occupancy, frame: Frame) -> None:
    """Write one frame as npz, atomically: labels, confidence, stamp, origin, resolution, taxonomy, frame_id, timings.

    Also T_world_grid (4, 4), where the frame has a pose.
    """
    grid = occupancy.grid
    arrays: dict[str, Any] = {}
    if frame.T_world_lidar is not None:
        arrays["T_world_grid"] = frame.T_world_lidar @ np.linalg.inv(frame.T_grid_lidar)
    with atomic_write(path) as temporary:
        np.savez_compressed(
            temporary,
            labels=occupancy.labels,
            confidence=occupancy.confidence,
            stamp=np.int64(occupancy.stamp),
            origin=np.asarray(grid.origin),
            resolution=np.float64(grid.resolution),
            taxonomy=np.str_(occupancy.taxonomy.name),
            frame_id=np.str_(occupancy.frame_id),
            timings=np.str_(json.dumps(occupancy.timings)),
            **arrays,
        )


def _run(folder: Path, out: Path, bundle_id: str, camera_names: tuple[str, ...], count: int,
         predictions: Callable[[_Losses], Iterator[_Prediction]], pictures: int,
         on_progress: ProgressCallback | None, world: tuple[MapConfig, str]) -> RunSummary:  # fmt: skip
    losses = _Losses()
    run_map = RunMap(*world, losses.statistics)
    stages: dict[str, list[float]] = {}
    frames = 0
    chosen = evenly_spaced(count, pictures)
    with _occupancy_bag(folder) as write:
        for prediction in predictions(losses):
            save_occupancy(folder / "frames" / f"{prediction.number:06d}.npz", prediction.occupancy, prediction.frame)
            write(prediction.occupancy)
            run_map.add(prediction.frame, prediction.occupancy)
            if prediction.number in chosen:
                write_snapshots(
                    folder / "pictures",
                    f"{prediction.number:06d}",
                    prediction.frame,
                    camera_names,
                    prediction.occupancy,
                    prediction.truth,
                )
            for stage, milliseconds in prediction.occupancy.timings.items():
                stages.setdefault(stage, []).append(milliseconds)
            frames += 1
            if on_progress:
                on_progress(prediction.number + 1, count)
    run_map.save(folder / "map.occlemap")
    counts, _ = losses.statistics.counts()
    notes = tuple(note for note in losses.notes.values() if note)
    times = {stage: percentiles(samples, (50, 95)) for stage, samples in stages.items()}
    summary = RunSummary(str(out), bundle_id, frames, tuple(losses.failed), counts, notes, times)
    write_json(folder / "summary.json", asdict(summary))
    return summary


@contextmanager
def _occupancy_bag(folder: Path) -> Iterator[Callable[[Occupancy], None]]:
    """Writer of occupancy.mcap in the folder, with the messages that the node would publish."""
    bag = folder / "occupancy"
    with BagWriter(bag) as writer:
        qos = [offered_qos()]
        voxels = writer.add_connection(VOXELS, "sensor_msgs/msg/PointCloud2", typestore=TYPES, offered_qos_profiles=qos)
        markers = writer.add_connection(MARKERS, "visualization_msgs/msg/MarkerArray", typestore=TYPES, offered_qos_profiles=qos)

        def write(occupancy: Occupancy) -> None:
            writer.write(voxels, occupancy.stamp, serialize_message(cloud_from_occupancy(occupancy)))
            writer.write(markers, occupancy.stamp, marker_array(occupancy).data)

        yield write
    flatten_bag_folder(bag, folder / "occupancy.mcap")


def flatten_bag_folder(bag: Path, file: Path) -> None:
    """Replace a bag's folder by its single mcap file."""
    (recorded,) = bag.glob("*.mcap")
    recorded.replace(file)
    shutil.rmtree(bag)
