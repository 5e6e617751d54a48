# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""nuScenes' JSON tables, indexed for reading keyframes."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from occle_core.datasets.base import DatasetError
from occle_core.datasets.files import read_json

Row = dict[str, Any]

FIELDS = {
    "scene": ("token", "name", "first_sample_token"),
    "sample": ("token", "next"),
    "sample_data": ("token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "filename", "timestamp", "is_key_frame",
                    "width", "height"),
    "ego_pose": ("token", "translation", "rotation"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "sensor": ("token", "channel"),
    "sample_annotation": ("sample_token", "instance_token", "translation", "size", "rotation"),
    "instance": ("token", "category_token"),
    "category": ("token", "name"),
    "attribute": ("token", "name"),
    "lidarseg": ("sample_data_token", "filename"),
}  # fmt: skip
"""Required fields of each table's rows."""


class Tables:
    """The tables of one version folder (v1.0-mini, v1.0-trainval, ...), read as they are needed.

    Args:
        root: the data set's folder, that file names in the tables start from.
        version: name of the folder of tables.
    """

    def __init__(self, root: Path, version: str) -> None:
        self.root = root
        self.version = version

    def read(self, table: str) -> list[Row]:
        """The rows of a table.

        Raises:
            DatasetError: the file is missing or not a list of rows with the table's fields.
        """
        file = self.file(table)
        rows = read_json(file)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DatasetError(f"{file} is not a list of rows, as nuScenes' tables are")
        for number, row in enumerate(rows):
            lacking = [field for field in FIELDS[table] if field not in row]
            if lacking:
                raise DatasetError(f"{file}: row {number} has no {', '.join(lacking)}; is it nuScenes' table of that name?")
        return rows

    def file(self, table: str) -> Path:
        """Path of a table's JSON file."""
        return self.root / self.version / f"{table}.json"

    def find(self, table: str, token: str) -> Row:
        """The row with a token.

        Raises:
            DatasetError: there is none.
        """
        rows = self.index(table)
        if token not in rows:
            raise DatasetError(f"{self.file(table)} has no row with token {token}")
        return rows[token]

    def index(self, table: str) -> dict[str, Row]:
        """A whole table by token; read once."""
        if table not in self._indexes:
            self._indexes[table] = {row["token"]: row for row in self.read(table)}
        return self._indexes[table]

    def samples(self, scene: Row) -> list[Row]:
        """A scene's samples in time order."""
        rows: dict[str, Row] = {}
        token = scene["first_sample_token"]
        while token:
            if token in rows:
                raise DatasetError(f"{self.file('sample')}: the samples of {scene['name']} form a loop at {token}")
            rows[token] = self.find("sample", token)
            token = rows[token]["next"]
        return list(rows.values())

    def lidarseg(self, sample_data_token: str) -> str | None:
        """File name of a scan's point labels, or None without lidarseg."""
        return self._lidarseg.get(sample_data_token)

    def annotations(self, sample_token: str) -> list[Row]:
        """A sample's boxes."""
        return self._annotations.get(sample_token, [])

    def category(self, annotation: Row) -> str:
        """A box's category name, such as vehicle.car."""
        instance = self.find("instance", annotation["instance_token"])
        return str(self.find("category", instance["category_token"])["name"])

    def attributes(self, annotation: Row) -> set[str]:
        """A box's attribute names, such as vehicle.parked."""
        return {str(self.find("attribute", token)["name"]) for token in annotation.get("attribute_tokens", [])}

    @cached_property
    def keyframes(self) -> dict[str, dict[str, Row]]:
        """sample token -> channel (LIDAR_TOP, CAM_FRONT, ...) -> its sample_data row."""
        channels = {
            token: self.find("sensor", row["sensor_token"])["channel"] for token, row in self.index("calibrated_sensor").items()
        }
        found: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in self.read("sample_data"):
            if row["is_key_frame"]:
                found[row["sample_token"]][channels.get(row["calibrated_sensor_token"], "")] = row
        return found

    @cached_property
    def _indexes(self) -> dict[str, dict[str, Row]]:
        return {}

    @cached_property
    def _lidarseg(self) -> dict[str, str]:
        if not self.file("lidarseg").exists():
            return {}
        return {row["sample_data_token"]: row["filename"] for row in self.read("lidarseg")}

    @cached_property
    def _annotations(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.read("sample_annotation"):
            found[row["sample_token"]].append(row)
        return found


def open_tables(root: Path, version: str) -> Tables:
    """The tables of a folder; the scenes of one data set share what was read of them."""
    stamps = tuple((file.name, file.stat().st_mtime_ns) for file in sorted((root / version).glob("*.json")))
    return _open(root.resolve(), version, stamps)


@lru_cache(maxsize=2)
def _open(root: Path, version: str, changed: tuple[tuple[str, int], ...]) -> Tables:
    # `changed` makes tables that were written anew under the same name another entry of the cache.
    return Tables(root, version)
