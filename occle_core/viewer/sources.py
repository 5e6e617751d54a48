# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sources of frames to view: the results of an offline run, and a bundle on a data set."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bundle import find_bundle, read_spec
from occle_core.console import one_line, print_notice
from occle_core.datasets import open_dataset
from occle_core.frame import Frame, FrameError
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.predictor import Predictor
from occle_core.taxonomy import Taxonomy
from occle_core.viewer.view_frame import ViewError, ViewFrame


@dataclass(frozen=True)
class Selection:
    """Which frames of a recording are shown.

    Args:
        limit: how many at most; None: all.
        every: each n-th; the network runs on these alone, and sees those between where it looks back.
    """

    limit: int | None = None
    every: int = 1

    def numbers(self, count: int) -> range:
        """Frame numbers of a recording of `count` frames."""
        return range(count)[:: self.every][: self.limit]


@dataclass(frozen=True)
class ViewSource:
    """Frames with what they are.

    Args:
        title: name of the recording.
        subtitle: where it is from, and the network.
        taxonomy: the classes.
        camera_names: of the images.
        total: number of frames that the recording has; None: it has no end.
        count: number of frames that are shown, at most; None: it has no end.
        frames: are made one by one, once.
    """

    title: str
    subtitle: str
    taxonomy: Taxonomy
    camera_names: tuple[str, ...]
    total: int | None
    count: int | None
    frames: Iterator[ViewFrame]


def is_results(folder: Path) -> bool:
    """True for a folder that `occle run` wrote."""
    return any((folder / "frames").glob("*.npz"))


def results_source(folder: Path, selection: Selection, bundle: Path | None = None) -> ViewSource:
    """The frames of an offline run, as they were predicted. Images are those that it drew (`--pictures`).

    Args:
        folder: what `occle run` wrote.
        selection: of its frames.
        bundle: the network's folder, for classes of your own; None: the class list is a shipped one.

    Raises:
        ViewError: a file is damaged, or the class list is not known (also while the frames are taken).
    """
    saved = sorted((folder / "frames").glob("*.npz"))
    chosen = [saved[i] for i in selection.numbers(len(saved))]
    classes = taxonomy.load(read_spec(find_bundle(bundle)).taxonomy) if bundle else None
    first = _result(chosen[0], folder / "pictures", classes)
    cameras = sorted({name for file in chosen for name in _image_files(folder / "pictures", file.stem)})
    frames = (_result(file, folder / "pictures", classes) for file in chosen)
    network = ""
    if (folder / "summary.json").exists():
        try:
            network = str(json.loads((folder / "summary.json").read_text("utf-8"))["bundle"])
        except (ValueError, KeyError, TypeError) as error:
            raise ViewError(f"{folder / 'summary.json'} is damaged ({one_line(error)}); run `occle run` again") from error
    subtitle = f"results of occle run, {network}"
    return ViewSource(folder.resolve().name, subtitle, first.occupancy.taxonomy, tuple(cameras), len(saved), len(chosen), frames)


def dataset_source(
    path: Path, bundle: Path, selection: Selection, kind: str | None = None, scene: str | None = None, engine: str = "torch"
) -> ViewSource:
    """A bundle on a data set; the truth is shown where the data set has it.

    Args:
        path: as for `occle_core.datasets.open_dataset`.
        bundle: the network's folder.
        selection: of the data set's frames.
        kind: layout of the data set; None guesses.
        scene: which sequence, if there are several.
        engine: one of `occle_core.engines.loading.ENGINE_NAMES`.

    Raises:
        DatasetError, BundleError, EngineError: it cannot start, or a file is missing or damaged.
    """
    dataset = open_dataset(path, kind, scene)
    predictor = Predictor.load(bundle, engine)
    numbers = selection.numbers(len(dataset))
    has_same_classes = dataset.taxonomy.name == predictor.taxonomy.name

    def frames() -> Iterator[ViewFrame]:
        for number in numbers:
            frame = dataset.frame(number)
            predictor.recall(dataset, number)
            try:
                occupancy = predictor.predict(frame, dataset.grid_frame)
            except FrameError as error:
                print_notice(f"frame {number} is left out: {error}")
                continue
            truth = dataset.truth(number, predictor.grid) if has_same_classes else None
            yield ViewFrame.of(number, frame, dataset.camera_names, occupancy, truth)

    title = f"{dataset.kind} {dataset.name}"
    subtitle = f"{path.resolve().name}, {predictor.bundle_id}"
    return ViewSource(title, subtitle, predictor.taxonomy, dataset.camera_names, len(dataset), len(numbers), frames())


def _result(file: Path, pictures: Path, classes: Taxonomy | None) -> ViewFrame:
    try:
        with np.load(file, allow_pickle=False) as saved:
            labels, confidence = saved["labels"], saved["confidence"]
            grid = VoxelGrid(tuple(saved["origin"].tolist()), labels.shape, float(saved["resolution"]))
            name, stamp, frame_id = str(saved["taxonomy"]), int(saved["stamp"]), str(saved["frame_id"])
            pose = saved.get("T_world_grid")
            timings = json.loads(str(saved["timings"])) if "timings" in saved else {}
            number = int(file.stem)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ViewError(f"{file} is no frame of `occle run` ({one_line(error)}); run it again") from error
    known = classes or _classes(file, name)
    wrong = (labels >= known.num_classes) & (labels != known.ignore)
    if classes is not None and name != classes.name:
        raise ViewError(f"{file} has {name} classes, the bundle {classes.name}; give the bundle that made it")
    if labels.dtype != np.uint8 or confidence.shape != labels.shape or wrong.any():
        raise ViewError(f"{file} is damaged: its arrays are no occupancy of {known.name}; run `occle run` again")
    occupancy = Occupancy.of_volumes(
        labels, confidence.astype(np.float16), grid, known, stamp=stamp, frame_id=frame_id, timings=timings
    )
    frame = Frame(stamp, np.zeros((0, 4), np.float32), T_world_lidar=pose)
    return ViewFrame(number, occupancy, frame, _images(pictures, file.stem))


def _classes(file: Path, name: str) -> Taxonomy:
    try:
        return taxonomy.load(name)
    except KeyError as error:
        raise ViewError(f"{file} has classes of your own, {name}; give the network with --bundle") from error


def _image_files(folder: Path, stem: str) -> dict[str, Path]:
    """The pictures that `occle run` drew of a frame, by camera: NNNNNN_CAMERA.png."""
    return {file.stem.removeprefix(f"{stem}_"): file for file in sorted(folder.glob(f"{stem}_*.png"))}


def _images(folder: Path, stem: str) -> dict[str, NDArray[np.uint8]]:
    images = {name: cv2.imread(str(file)) for name, file in _image_files(folder, stem).items()}
    return {
        name: np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) for name, image in images.items() if image is not None
    }
