"""`occle run`: every frame of a bag or a data set through the network, nothing dropped, however long it takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from occle_core.atomic_file import atomic_write, write_json
from occle_core.bags.storage import TYPES
from occle_core.bags.writer import BagWriter
from occle_core.datasets import Dataset, open_dataset
from occle_core.datasets.completeness import require_frames
from occle_core.frame import Frame, FrameError
from occle_core.occupancy import Occupancy
from occle_core.output_folder import new_folder
from occle_core.predictor import Predictor
from occle_core.sensors.messages import ConversionError
from occle_ros.bags.converter import offered_qos
from occle_ros.bags.reader import BagReader
from occle_ros.calibration.files import CalibrationError
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.clouds import cloud_from_occupancy
from occle_ros.messages.markers import marker_array
from occle_ros.pipeline.pipeline import Pipeline, Processed, count_losses
from occle_ros.pipeline.statistics import Statistics, percentiles
from occle_ros.tools.snapshots import write_snapshots

VOXELS, MARKERS = "/occupancy/voxels", "/occupancy/markers"
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class RunSummary:
    """What an offline run did.

    Args:
        out: the folder that was written.
        bundle: id of the network.
        frames: number of frames that were predicted.
        failed: "stamp: error" of the frames that could not be.
        counts: what was left out, by group and reason as on /diagnostics: masked (cameras), synchronizer (scans and images),
            points, overflow, history.
        notes: what a user should know of the rig, and for each camera and reason the first problem that masked it.
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
class _Record:
    """What the frames of a run leave behind."""

    failed: list[str] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    notes: dict[str, str] = field(default_factory=dict)  # by what it is about

    def take(self, processed: Processed) -> None:
        """Count what a frame had to go without, and note why."""
        count_losses(processed, self.statistics)
        for note in (*processed.notes, processed.pose_problem):
            self.notes.setdefault(note, note)
        for name, problem in processed.problems.items():
            self.notes.setdefault(f"{name}:{processed.masked.get(name)}", f"{name} is left out: {problem}")


@dataclass(frozen=True)
class _Step:
    number: int
    frame: Frame
    occupancy: Occupancy
    truth: np.ndarray[Any, np.dtype[np.uint8]] | None


def run_bag(bag: Path, bundle: Path, out: Path, config: NodeConfig | None = None, limit: int | None = None,
            pictures: int = 0, told: Told | None = None, engine: str = "torch") -> RunSummary:  # fmt: skip
    """Predict every frame of a bag, through the live node's conversion and matching.

    Args:
        bag: a rosbag2 folder or file.
        bundle: the network's folder.
        out: folder to make: frames/NNNNNN.npz (labels, confidence, stamp, grid), occupancy.mcap with the node's messages,
            pictures/*.png, summary.json. It appears when all is done.
        config: the node's configuration; None: what the bag itself tells.
        limit: only the first so many frames.
        pictures: of how many frames, evenly spread, pictures are drawn.
        told: called with (frames done, frames in all).
        engine: one of `occle_core.engines.loading.ENGINE_NAMES`.

    Raises:
        BagError, CalibrationError, ConfigError, BundleError, EngineError: the run cannot begin. A frame that fails is in the
            summary.
    """
    with new_folder(out) as folder:
        reader = BagReader(bag, config)
        predictor = Predictor.load(bundle, engine)
        pipeline = Pipeline(predictor, reader.config, reader.calibration)
        count = len(reader) if limit is None else min(limit, len(reader))

        def steps(record: _Record) -> Iterator[_Step]:
            for number, synced in zip(range(count), reader.synced()):
                try:
                    processed = pipeline.process(synced)
                except (FrameError, ConversionError, CalibrationError) as error:
                    record.failed.append(f"{synced.stamp / 1e9:.3f}: {error}")
                    continue
                record.take(processed)
                yield _Step(number, processed.frame, processed.occupancy, None)
            for reason, messages in reader.collector_counts.items():
                record.statistics.count("synchronizer", reason, messages)

        return _run(folder, out, predictor.bundle_id, reader.config.camera_names, count, steps, pictures, told)


def run_dataset(path: Path, bundle: Path, out: Path, kind: str | None = None, scene: str | None = None,
                limit: int | None = None, pictures: int = 0, told: Told | None = None,
                engine: str = "torch") -> RunSummary:  # fmt: skip
    """Predict every frame of a data set on disk; pictures show the truth too where the data set has one.

    Args:
        path, kind, scene: as for `occle_core.datasets.open_dataset`.
        bundle, out, limit, pictures, told, engine: as for `run_bag`.

    Raises:
        DatasetError, BundleError, EngineError: the run cannot begin, or a file is missing or broken. A frame that only the network
            refuses is in the summary.
    """
    with new_folder(out) as folder:
        dataset: Dataset = open_dataset(path, kind, scene)
        predictor = Predictor.load(bundle, engine)
        count = len(dataset) if limit is None else min(limit, len(dataset))
        require_frames((dataset, i) for i in range(count))

        def steps(record: _Record) -> Iterator[_Step]:
            for number in range(count):
                frame = dataset.frame(number)
                try:
                    occupancy = predictor.predict(frame, dataset.grid_frame)
                except FrameError as error:
                    record.failed.append(f"frame {number}: {error}")
                    continue
                missing = [name for name, image in zip(dataset.camera_names, frame.images) if image is None]
                record.take(Processed(frame, occupancy, {}, dict.fromkeys(missing, "no_image")))
                with_truth = number in _chosen(count, pictures) and dataset.taxonomy.name == predictor.taxonomy.name
                yield _Step(number, frame, occupancy, dataset.truth(number, predictor.grid) if with_truth else None)

        return _run(folder, out, predictor.bundle_id, dataset.camera_names, count, steps, pictures, told)


def save_occupancy(path: Path, occupancy: Occupancy) -> None:
    """One frame as npz: labels, confidence, stamp, origin, resolution, taxonomy, frame_id. Written whole or not at all."""
    grid = occupancy.grid
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
        )


def _run(folder: Path, out: Path, bundle_id: str, camera_names: tuple[str, ...], count: int,
         steps: Callable[[_Record], Iterator[_Step]], pictures: int, told: Told | None) -> RunSummary:  # fmt: skip
    record = _Record()
    stages: dict[str, list[float]] = {}
    frames = 0
    chosen = _chosen(count, pictures)
    with _occupancy_bag(folder) as write:
        for step in steps(record):
            save_occupancy(folder / "frames" / f"{step.number:06d}.npz", step.occupancy)
            write(step.occupancy)
            if step.number in chosen:
                write_snapshots(folder / "pictures", f"{step.number:06d}", step.frame, camera_names, step.occupancy, step.truth)
            for stage, milliseconds in step.occupancy.timings.items():
                stages.setdefault(stage, []).append(milliseconds)
            frames += 1
            if told:
                told(step.number + 1, count)
    counts, _ = record.statistics.counts()
    notes = tuple(note for note in record.notes.values() if note)
    times = {stage: percentiles(samples, (50, 95)) for stage, samples in stages.items()}
    summary = RunSummary(str(out), bundle_id, frames, tuple(record.failed), counts, notes, times)
    write_json(folder / "summary.json", asdict(summary))
    return summary


def _chosen(count: int, pictures: int) -> set[int]:
    """Numbers of `pictures` frames, evenly spread, the middle of each stretch."""
    pictures = min(pictures, count)
    return {(2 * i + 1) * count // (2 * pictures) for i in range(pictures)}


@contextmanager
def _occupancy_bag(folder: Path) -> Iterator[Callable[[Occupancy], None]]:
    """occupancy.mcap in the folder, with the messages that the node would publish."""
    bag = folder / "occupancy"
    with BagWriter(bag) as writer:
        qos = [offered_qos()]
        voxels = writer.add_connection(VOXELS, "sensor_msgs/msg/PointCloud2", typestore=TYPES, offered_qos_profiles=qos)
        markers = writer.add_connection(MARKERS, "visualization_msgs/msg/MarkerArray", typestore=TYPES, offered_qos_profiles=qos)

        def write(occupancy: Occupancy) -> None:
            writer.write(voxels, occupancy.stamp, serialize_message(cloud_from_occupancy(occupancy)))
            writer.write(markers, occupancy.stamp, marker_array(occupancy).data)

        yield write
    only_file(bag, folder / "occupancy.mcap")


def only_file(bag: Path, file: Path) -> None:
    """Turn a bag's folder into its single mcap file."""
    (recorded,) = bag.glob("*.mcap")
    recorded.replace(file)
    shutil.rmtree(bag)
