# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Map files: one compressed file with a version; reading one runs no code of its own."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from occle_core import taxonomy
from occle_core.atomic_file import atomic_write
from occle_core.config import Config
from occle_core.errors import OccleError
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.config import UNITS, MapConfig
from occle_core.mapping.snapshot import MapSnapshot
from occle_core.taxonomy import Taxonomy, TaxonomyConfig

FORMAT, VERSION = "occle-map", 1
HEADER = "map.json"
ARRAYS = {"log_odds": np.dtype(np.int8), "labels": np.dtype(np.uint8), "votes": np.dtype(np.uint8)}
MAX_CELLS = 1 << 30
"""Larger maps are not read: a file of a few kilobytes can claim any size."""
MAX_HEADER = 1 << 20

Cells = Annotated[int, Field(ge=1, le=1 << 20)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class MapFileError(OccleError, ValueError):
    """A map file that cannot be used; the message says why in one line."""


class MapHeader(Config):
    """What map.json says beside the format's name and version."""

    format: Literal["occle-map"] = "occle-map"
    version: Literal[1] = 1
    units: Literal[16] = 16
    taxonomy: str | TaxonomyConfig = Field(description="name of a shipped class list, or the class list itself")
    frame_id: str
    stamp: int
    robot: tuple[Finite, Finite, Finite]
    low: tuple[int, int, int] = Field(description="number of the lowest cell: its corner lies at low * resolution")
    shape: tuple[Cells, Cells, Cells]
    config: MapConfig


def save_map(path: Path | str, snapshot: MapSnapshot) -> None:
    """Write a map, whole or not at all: a ZIP of map.json and raw arrays in C order.

    Raises:
        OSError: it cannot be written.
    """
    resolution = snapshot.grid.resolution
    x, y, z = (round(v / resolution) for v in snapshot.grid.origin)
    header = MapHeader(
        taxonomy=_class_list(snapshot.taxonomy),
        frame_id=snapshot.frame_id,
        stamp=snapshot.stamp,
        robot=snapshot.robot,
        low=(x, y, z),
        shape=snapshot.grid.shape,
        config=snapshot.config,
    )
    assert header.units == UNITS
    with (
        atomic_write(Path(path)) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive,
    ):
        archive.writestr(HEADER, json.dumps(header.model_dump(mode="json"), indent=1))
        for name in ARRAYS:
            archive.writestr(name, np.ascontiguousarray(getattr(snapshot, name)).tobytes())


def load_map(path: Path | str) -> MapSnapshot:
    """Read a map.

    Raises:
        MapFileError: it is missing, damaged, of another version, or no map.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            header = _header(path, archive)
            count = int(np.prod(header.shape))
            if count > MAX_CELLS:
                raise MapFileError(f"{path}: {count} cells are more than this occle reads ({MAX_CELLS})")
            cells = {name: _array(path, archive, name, count).reshape(header.shape) for name in ARRAYS}
    except FileNotFoundError as error:
        raise MapFileError(f"{path}: there is no such file") from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MapFileError(f"{path}: no readable map file ({_line(error)}); save the map again") from error
    try:
        classes = taxonomy.load(header.taxonomy)
    except KeyError as error:
        raise MapFileError(f"{path}: {error.args[0]}") from error
    labels = cells["labels"]
    if ((labels >= classes.num_classes) & (labels != classes.ignore)).any():
        raise MapFileError(f"{path}: holds labels that {classes.name} does not have; the file is damaged")
    resolution = header.config.resolution
    x, y, z = (n * resolution for n in header.low)
    grid = VoxelGrid((x, y, z), header.shape, resolution)
    return MapSnapshot(
        cells["log_odds"], labels, cells["votes"], grid, classes, header.config, header.stamp, header.robot, header.frame_id
    )


def _class_list(classes: Taxonomy) -> str | TaxonomyConfig:
    """As in the header: a class list of one's own cannot be found by its name."""
    try:
        if taxonomy.load(classes.name).is_same_list(classes):
            return classes.name
    except KeyError:
        pass
    red_green_blue = [(red, green, blue) for red, green, blue in classes.colors.tolist()]
    return TaxonomyConfig(
        name=classes.name,
        classes=dict(zip(classes.names, red_green_blue)),
        free=classes.names[classes.free],
        thin=tuple(classes.names[label] for label in classes.thin),
        ground=classes.ground,
        vehicles=classes.vehicles,
        people=classes.people,
        names={classes.name: dict(zip(classes.names, classes.names))},
    )


def _header(path: Path, archive: zipfile.ZipFile) -> MapHeader:
    if HEADER not in archive.namelist() or archive.getinfo(HEADER).file_size > MAX_HEADER:
        raise MapFileError(f"{path}: a ZIP file, but no occle map: it has no usable {HEADER}")
    try:
        content: Any = json.loads(archive.read(HEADER))
    except ValueError as error:
        raise MapFileError(f"{path}: {HEADER} is no JSON ({_line(error)})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise MapFileError(f"{path}: {HEADER} does not say that this is an {FORMAT}")
    if content.get("version") != VERSION:
        raise MapFileError(f"{path}: a map of version {content.get('version')!r}; this occle reads version {VERSION}")
    try:
        header = MapHeader.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise MapFileError(f"{path}: {HEADER}: {'.'.join(map(str, first['loc']))}: {_line(first['msg'])}") from error
    if header.shape != header.config.shape:
        raise MapFileError(f"{path}: {HEADER}: shape {header.shape} is not that of its configuration, {header.config.shape}")
    return header


def _array(path: Path, archive: zipfile.ZipFile, name: str, count: int) -> NDArray[Any]:
    if name not in archive.namelist():
        raise MapFileError(f"{path}: has no array {name}; the file is damaged")
    if archive.getinfo(name).file_size != count * ARRAYS[name].itemsize:
        raise MapFileError(
            f"{path}: array {name} has {archive.getinfo(name).file_size} bytes for {count} cells; the file is damaged"
        )
    return np.frombuffer(bytearray(archive.read(name)), ARRAYS[name])


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
