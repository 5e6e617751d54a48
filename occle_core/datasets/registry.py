# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Registry of data set layouts: finds the layout of a path and opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occle_core.datasets import kitti360, kitti_raw, nuscenes, nuscenes_infos, semantickitti
from occle_core.datasets.base import Dataset, DatasetError
from occle_core.datasets.recordings import bag, sequence
from occle_core.taxonomy import Taxonomy


def open_dataset(
    path: Path | str,
    kind: str | None = None,
    scene: str | None = None,
    classes: Taxonomy | None = None,
    rig: Path | str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Dataset:
    """One sequence of a data set on disk, or a bag.

    Args:
        path: a sequence or drive folder, a data set's root, or the JSON file of an extract.
        kind: semantickitti, kitti360, kitti, nuscenes, occle, bag or streets (the simulator's, in any layout); None guesses.
        scene: which sequence of a root; may be left out where there is one only.
        classes: class list of your own, with the data set's raw ids or the names of its class list; None: the data set's.
        rig: rig file of a bag; None: rig.yaml beside it.
        image_size: (width, height) of images that is enough, such as `Predictor.image_size`: JPEGs of nuScenes and bags are then
            decoded at half their size where that is at least so large, as in the live node. None: images as they are stored.

    Raises:
        DatasetError: the path holds nothing that is known, no such scene, or several and none was named; the message lists
            what was found and what is expected.
    """
    path = Path(path)
    reader, found = _find(path, kind)
    if scene is None:
        if len(found) > 1:
            raise DatasetError(f"{path} holds {len(found)} sequences; name one: {_some(found)}")
        scene = next(iter(found))
    if scene not in found:
        raise DatasetError(f"{path} has no sequence {scene!r}; it has {_some(found)}")
    if rig is not None and "bag" not in reader.kinds:
        raise DatasetError(f"{path} is {reader.kinds[0]}, which says itself what its sensors are; leave the rig file out")
    dataset = reader.open(found[scene], scene) if rig is None else bag.BagDataset(found[scene], scene, Path(rig))
    if isinstance(dataset, (nuscenes.NuScenesDataset, bag.BagDataset)):
        dataset.image_size = image_size
    if classes is not None:
        dataset.taxonomy = classes.for_data(dataset.taxonomy)
    return dataset


def list_scenes(path: Path | str, kind: str | None = None) -> list[str]:
    """The names of the sequences at a path, for `open_dataset`'s `scene`.

    Raises:
        DatasetError: the path holds nothing that is known.
    """
    return list(_find(Path(path), kind)[1])


def layout_of(path: Path | str) -> str | None:
    """The kind of data set in a folder, as `open_dataset` would guess it; None where there is none."""
    path = Path(path)
    return next((reader.kinds[0] for reader in _LAYOUTS if path.exists() and reader.scenes(path)), None)


@dataclass(frozen=True)
class _Layout:
    kinds: tuple[str, ...]
    layout: str
    scenes: Callable[[Path], Mapping[str, Any]]
    open: Callable[[Any, str], Dataset]


def _open_extract(file: Path, name: str) -> Dataset:
    if file.name == "infos.json":
        return nuscenes_infos.NuScenesInfosDataset(file, name)
    return nuscenes_infos.NuScenesLidarDataset(file, name)


_LAYOUTS = (
    _Layout(("occle", "streets"), sequence.LAYOUT, sequence.scenes, sequence.SequenceDataset),
    _Layout(("bag",), bag.LAYOUT, bag.scenes, bag.BagDataset),
    _Layout(("semantickitti", "streets"), semantickitti.LAYOUT, semantickitti.scenes, semantickitti.SemanticKittiDataset),
    _Layout(("nuscenes", "streets"), nuscenes.LAYOUT, nuscenes.scenes, nuscenes.NuScenesDataset),
    _Layout(("nuscenes",), nuscenes_infos.LAYOUT, nuscenes_infos.scenes, _open_extract),
    _Layout(("kitti360",), kitti360.LAYOUT, kitti360.scenes, kitti360.Kitti360Dataset),
    _Layout(("kitti",), kitti_raw.LAYOUT, kitti_raw.scenes, kitti_raw.KittiRawDataset),
)


def _find(path: Path, kind: str | None) -> tuple[_Layout, Mapping[str, Any]]:
    kinds = sorted({name for reader in _LAYOUTS for name in reader.kinds})
    if kind is not None and kind not in kinds:
        raise DatasetError(f"there is no kind of data set {kind!r}; there are {', '.join(kinds)}")
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    readers = [reader for reader in _LAYOUTS if kind is None or kind in reader.kinds]
    for reader in readers:
        if found := reader.scenes(path):
            return reader, found
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir()) if path.is_dir() else []
    found_text = f"holds {_some(entries)}" if entries else "is empty" if path.is_dir() else "is a file"
    wanted = "\n".join(f"  {reader.kinds[0]:14s}{reader.layout}" for reader in readers)
    raise DatasetError(
        f"{path} is not a data set that occle knows: it {found_text}. Expected{f' for {kind}' if kind else ''}:\n{wanted}"
    )


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
