"""Class lists: what the label ids of a grid mean, how they are drawn, and how data sets' raw ids become them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

IGNORE = 255
"""The label of cells and points that carry no class: unknown, invalid or not evaluated."""


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """A class list with ids 0..C-1, one of which means free space.

    Args:
        name: what `load` calls it.
        names: the C class names; the position is the id.
        colors: (C, 3) uint8 RGB.
        free: id of the free class.
        thin: ids of classes whose objects are thinner than a cell; a few of their points outvote many of another class.
        ignore: the id of "no class", 255.
    """

    name: str
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    free: int
    thin: tuple[int, ...] = ()
    ignore: int = IGNORE
    _voxels: NDArray[np.uint8] = field(default_factory=lambda: np.full(1 << 16, IGNORE, np.uint8), repr=False)
    _points: NDArray[np.uint8] = field(default_factory=lambda: np.full(1 << 16, IGNORE, np.uint8), repr=False)

    @property
    def num_classes(self) -> int:
        """Number of classes, the free class included."""
        return len(self.names)

    def id(self, name: str) -> int:
        """The id of a class name.

        Raises:
            KeyError: there is no such class; the message lists all.
        """
        if name not in self.names:
            raise KeyError(f"{self.name} has no class {name!r}; it has {', '.join(self.names)}")
        return self.names.index(name)

    def from_raw(self, raw: ArrayLike) -> NDArray[np.uint8]:
        """Raw ids of the data set's voxel files -> class ids of the same shape; what has no class becomes 255."""
        return _look_up(self._voxels, raw)

    def points_from_raw(self, raw: ArrayLike) -> NDArray[np.uint8]:
        """Raw semantic ids of the data set's points (without instance bits) -> class ids; unlabelled points become 255."""
        return _look_up(self._points, raw)


def load(name: str) -> Taxonomy:
    """A shipped taxonomy: semantickitti, occ3d_nuscenes or sscbench_kitti360 (case and dashes do not matter).

    Raises:
        KeyError: there is no taxonomy of this name; the message lists all.
    """
    wanted = name.lower().replace("-", "").replace("_", "")
    known = {file.name.removesuffix(".yaml"): file for file in _folder().iterdir() if file.name.endswith(".yaml")}
    for key in known:
        if key.replace("_", "") == wanted:
            return _load(key)
    raise KeyError(f"no taxonomy is called {name!r}; there are {', '.join(sorted(known))}")


@lru_cache
def _load(key: str) -> Taxonomy:
    return _parse(yaml.safe_load((_folder() / f"{key}.yaml").read_text("utf-8")))


def _folder() -> Any:
    return files("occle_core") / "data" / "taxonomies"


def _parse(data: Mapping[str, Any]) -> Taxonomy:
    names = tuple(str(name) for name in data["classes"])
    colors = np.array(list(data["classes"].values()), np.uint8)
    colors.setflags(write=False)
    free = names.index(data["free"])
    voxels = dict(data["voxels"])
    # A point is never free space: without a table of their own, points use the voxels' and lose what that calls free.
    points = data.get("points") or {raw: label for raw, label in voxels.items() if label != free}
    thin = tuple(names.index(name) for name in data["thin"])
    return Taxonomy(data["name"], names, colors, free, thin, _voxels=_table(voxels), _points=_table(points))


def _table(mapping: Mapping[int, int]) -> NDArray[np.uint8]:
    table = np.full(1 << 16, IGNORE, np.uint8)
    for raw, label in mapping.items():
        table[raw] = label
    table.setflags(write=False)
    return table


def _look_up(table: NDArray[np.uint8], raw: ArrayLike) -> NDArray[np.uint8]:
    raw = np.asarray(raw)
    if raw.dtype not in (np.uint8, np.uint16):
        if raw.dtype.kind not in "iu":
            raise TypeError(f"raw labels are whole numbers, not {raw.dtype}")
        # Wider types may hold ids beyond the table: no class has them. 65535 is never a class either.
        raw = np.where((raw >= 0) & (raw < len(table)), raw, len(table) - 1)
    return np.asarray(table[raw], np.uint8)
