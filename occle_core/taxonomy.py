# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Class lists: what the label ids of a grid mean, how they are drawn, and how data sets' raw ids become them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError, model_validator

from occle_core.config import Config

IGNORE = 255
"""The label of cells and points that carry no class: unknown, invalid or not evaluated."""


Byte = Annotated[int, Field(ge=0, le=255)]
RawId = Annotated[int, Field(ge=0, lt=(1 << 16) - 1)]


class TaxonomyConfig(Config):
    """A class list as it is written in YAML: in a file, or in a bundle whose classes are not those of a known data set."""

    name: str = Field(min_length=1, description="what it is called")
    classes: dict[str, tuple[Byte, Byte, Byte]] = Field(
        min_length=2, max_length=255, description="class name -> RGB colour; the position is the class id"
    )
    free: str = Field(description="the class of free space")
    thin: tuple[str, ...] = Field((), description="classes whose objects are thinner than a cell")
    ground: tuple[str, ...] = Field((), description="classes to stand on, beside road, sidewalk, terrain, floor and their like")
    vehicles: tuple[str, ...] = Field((), description="classes of vehicles, beside car, truck, vehicle and their like")
    people: tuple[str, ...] = Field(
        (), description="classes of people and what they ride, beside person, pedestrian, bicycle and their like"
    )
    voxels: dict[RawId, Byte] = Field(
        default_factory=dict, description="raw id of the voxel files -> class id; what is not listed is ignored"
    )
    points: dict[RawId, Byte] | None = Field(None, description="the same for the points' raw ids, where they differ")
    names: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="class list (semantickitti, occ3d_nuscenes, sscbench_kitti360, warehouse, cityscapes, ...) -> its class name "
        "-> class; what is not listed is ignored",
    )

    @model_validator(mode="after")
    def _classes_exist(self) -> TaxonomyConfig:
        for key, named in self._by_key().items():
            if unknown := sorted(named - self.classes.keys()):
                raise ValueError(f"{', '.join(unknown)} (under {key}) is not one of the classes {', '.join(self.classes)}")
        ids = {*self.voxels.values(), *(self.points or {}).values()}
        if wrong := sorted(label for label in ids if label >= len(self.classes)):
            raise ValueError(f"class id {wrong[0]} (under voxels or points) does not exist; ids are 0 to {len(self.classes) - 1}")
        if not self.voxels and not self.names:
            raise ValueError("voxels (raw ids of label files) or names (classes of other lists) is missing")
        for source, table in self.names.items():
            if wrong_names := sorted(set(table.values()) - self.classes.keys()):
                raise ValueError(f"{wrong_names[0]} (under names.{source}) is not one of the classes {', '.join(self.classes)}")
        return self

    def _by_key(self) -> dict[str, set[str]]:
        roles = {"thin": self.thin, "ground": self.ground, "vehicles": self.vehicles, "people": self.people}
        return {"free": {self.free}, **{key: set(named) for key, named in roles.items()}}


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
        ground: names of classes that the list calls ground; `occle_core.mapping.classes` has all that are.
        vehicles: the same of vehicles.
        people: the same of people.
    """

    name: str
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    free: int
    thin: tuple[int, ...] = ()
    ignore: int = IGNORE
    ground: tuple[str, ...] = ()
    vehicles: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    _voxels: NDArray[np.uint8] = field(default_factory=lambda: np.full(1 << 16, IGNORE, np.uint8), repr=False)
    _points: NDArray[np.uint8] = field(default_factory=lambda: np.full(1 << 16, IGNORE, np.uint8), repr=False)
    _names: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    _ids: bool = field(default=False, repr=False)
    """Whether the files hold class ids instead of raw ids."""
    _unnamed: str = field(default="", repr=False)
    """Class list of the data, where this one can read no label of it."""

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

    def is_same_list(self, other: Taxonomy) -> bool:
        """Ids mean the same in both, and the lists have one name."""
        return (self.name, self.names, self.free) == (other.name, other.names, other.free)

    def from_raw(self, raw: ArrayLike) -> NDArray[np.uint8]:
        """Raw ids of the data set's voxel files -> class ids of the same shape; what has no class becomes 255.

        Raises:
            ValueError: this list names neither raw ids nor the classes of the data's list (`for_data`).
        """
        self._require_names()
        return _look_up(self._voxels, raw)

    def points_from_raw(self, raw: ArrayLike) -> NDArray[np.uint8]:
        """Raw semantic ids of the data set's points (without instance bits) -> class ids; unlabelled points become 255.

        Raises:
            ValueError: see `from_raw`.
        """
        self._require_names()
        return _look_up(self._points, raw)

    def ids_from(self, source: str) -> dict[str, int]:
        """Class names of another list -> class ids here, for labels that come as names; for this very list, its own.

        Args:
            source: name of that list, such as "cityscapes".

        Raises:
            ValueError: this list does not say what that one's classes are here.
        """
        table = self._names.get(source, dict(zip(self.names, self.names)) if source == self.name else None)
        if table is None:
            raise ValueError(self._lacks(source))
        return {name: self.id(own) for name, own in table.items()}

    def table_from(self, source: Taxonomy) -> NDArray[np.uint8]:
        """(256,) uint8: class ids of another list -> class ids here, 255 for classes without one; free space stays free.

        Raises:
            ValueError: as `ids_from`, or a name that the other list does not have.
        """
        table = np.full(256, IGNORE, np.uint8)
        table[source.free] = self.free
        for name, own in self.ids_from(source.name).items():
            if name not in source.names:
                raise ValueError(f"class list {self.name}: {source.name} has no class {name!r}; it has {', '.join(source.names)}")
            table[source.id(name)] = own
        return table

    def for_class_ids(self) -> Taxonomy:
        """This class list for files that hold class ids instead of raw ids."""
        same = _table({label: label for label in range(self.num_classes)})
        return replace(self, _voxels=same, _points=same, _ids=True)

    def for_data(self, source: Taxonomy) -> Taxonomy:
        """This class list for the labels of a data set of the class list `source`: by names or, without any, by raw ids of its own.

        Where it has neither, or the data's files hold no raw ids but class ids, reading labels is an error (`from_raw`); scans
        and images can be used all the same.

        Raises:
            ValueError: the data set's class list lacks a name of this one.
        """
        if source.name not in self._names and source.name != self.name:
            has_raw_ids = bool((self._voxels != IGNORE).any()) and not source._ids
            return self if has_raw_ids else replace(self, _unnamed=source.name)
        table = self.table_from(source)
        return replace(self, _voxels=table[source._voxels], _points=table[source._points])

    def _require_names(self) -> None:
        if self._unnamed:
            raise ValueError(f"the labels cannot be read: {self._lacks(self._unnamed)} (docs/how_to/own_classes.md)")

    def _lacks(self, source: str) -> str:
        known = ", ".join(self._names) or "none"
        return f"class list {self.name} has no names of {source} (it has those of: {known}); add names: {source}: ..."


def load(source: str | TaxonomyConfig) -> Taxonomy:
    """A class list: semantickitti, occ3d_nuscenes, sscbench_kitti360, warehouse (case and dashes do not matter), or your own.

    Args:
        source: name of a shipped class list, or a class list as `read_classes` reads it.

    Raises:
        KeyError: there is no taxonomy of this name; the message lists all.
    """
    if isinstance(source, TaxonomyConfig):
        return _built(source)
    wanted = source.lower().replace("-", "").replace("_", "")
    for name in _shipped():
        if name.replace("_", "") == wanted:
            return _load(name)
    raise KeyError(f"no taxonomy is called {source!r}; there are {', '.join(_shipped())}")


def read_classes(file: Path | str) -> TaxonomyConfig:
    """A class list of your own from its YAML file, for a network or for the reader of a data set.

    Raises:
        ValueError: the file cannot be read, is no class list, or takes the name of a shipped one.
    """
    try:
        config = TaxonomyConfig.model_validate(yaml.safe_load(Path(file).read_text("utf-8")))
    except OSError as error:
        raise ValueError(f"class list {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read as a class list: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()[:3])
        raise ValueError(f"{file} is no class list: {wrong}; see docs/how_to/own_classes.md") from error
    if config.name.lower().replace("-", "").replace("_", "") in {name.replace("_", "") for name in _shipped()}:
        raise ValueError(f"{file}: {config.name} is the name of a shipped class list; give yours another name")
    return config


@lru_cache
def _load(name: str) -> Taxonomy:
    return _built(TaxonomyConfig.model_validate(yaml.safe_load((_folder() / f"{name}.yaml").read_text("utf-8"))))


@lru_cache
def _shipped() -> tuple[str, ...]:
    return tuple(sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml")))


def _folder() -> Any:
    return files("occle_core") / "data" / "taxonomies"


def _built(config: TaxonomyConfig) -> Taxonomy:
    names = tuple(config.classes)
    colors = np.array(list(config.classes.values()), np.uint8)
    colors.setflags(write=False)
    free = names.index(config.free)
    # A point is never free space: without a table of their own, points use the voxels' and lose what that calls free.
    points = config.points or {raw: label for raw, label in config.voxels.items() if label != free}
    thin = tuple(names.index(name) for name in config.thin)
    roles = (config.ground, config.vehicles, config.people)
    return Taxonomy(config.name, names, colors, free, thin, IGNORE, *roles, _table(config.voxels), _table(points), config.names)


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
