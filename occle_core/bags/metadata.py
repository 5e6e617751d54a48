# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""metadata.yaml, which rosbag2 puts beside a bag's files: their names, their topics with counts, and the publishers' QoS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2.metadata import dump_qos_v9, parse_qos

METADATA_FILE = "metadata.yaml"
NEWEST_VERSION = 9


class MetadataError(ValueError):
    """A metadata.yaml that cannot be used; the text says why, to be put behind "metadata.yaml"."""


@dataclass(frozen=True)
class Metadata:
    """The contents of a metadata.yaml.

    Args:
        files: names of the storage files, in order.
        compressed_messages: every message is compressed with zstd for itself.
        counts: messages by topic.
        qos: the offers of a topic's publishers.
    """

    files: tuple[str, ...]
    compressed_messages: bool
    counts: Mapping[str, int]
    qos: Mapping[str, list[Qos]]


def read_metadata(file: Path) -> Metadata:
    """Read a metadata.yaml of any version up to 9.

    Raises:
        MetadataError: empty, damaged, or of a later version.
        OSError: it cannot be read.
    """
    try:
        content = yaml.safe_load(file.read_bytes())
    except RecursionError as error:
        raise MetadataError("is not YAML (it is nested too deep)") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise MetadataError(f"is not YAML ({str(error).splitlines()[0]})") from error
    if content is None:
        raise MetadataError("is empty")
    try:
        return _parse(content["rosbag2_bagfile_information"])
    except MetadataError:
        raise
    except Exception as error:  # whatever a wrong type at any place raises
        raise MetadataError(f"is damaged ({type(error).__name__}: {error})") from error


def _parse(info: Mapping[str, Any]) -> Metadata:
    if not isinstance(info["version"], int) or info["version"] > NEWEST_VERSION:
        raise MetadataError(f"has version {info['version']}, and {NEWEST_VERSION} is the newest that is known here")
    # Written on Windows, or with the folder in front (version 3 and before).
    files = tuple(PurePosixPath(PureWindowsPath(name).as_posix()).name for name in info["relative_file_paths"])
    counts: dict[str, int] = {}
    qos: dict[str, list[Qos]] = {}
    for entry in info["topics_with_message_count"]:
        topic, offered = entry["topic_metadata"]["name"], entry["topic_metadata"].get("offered_qos_profiles")
        counts[topic] = counts.get(topic, 0) + int(entry["message_count"])
        qos.setdefault(topic, []).extend(qos_from(offered))
    mode, form = str(info.get("compression_mode") or "none").lower(), str(info.get("compression_format") or "zstd").lower()
    if mode not in ("none", "file", "message") or form != "zstd":
        raise MetadataError(f"names a compression that is not known here ({mode}, {form})")
    return Metadata(files, mode == "message", counts, qos)


def qos_from(offered: Any) -> list[Qos]:
    """The profiles of a QoS text or list of any version; none where it cannot be read."""
    try:
        return list(parse_qos(offered or []))
    except Exception:  # rosbags lets through whatever the text provokes
        return []


def qos_text(profiles: Sequence[Qos]) -> str:
    """Profiles as rosbag2 writes them into a storage file."""
    return str(yaml.safe_dump(dump_qos_v9(list(profiles)), sort_keys=False)).strip()


def describe_bag(
    file: str, connections: Sequence[Connection], counts: Mapping[int, int], offered: Mapping[int, list[Qos]], start: int, end: int
) -> dict[str, Any]:
    """The contents of `rosbag2_bagfile_information`, version 9, for a bag of one mcap file.

    Args:
        file: its name.
        connections: the topics; `counts` and `offered` go by their id.
        start, end: times of the first and the last message, nanoseconds; 0 without messages.
    """
    total = sum(counts.values())
    span = {"duration": {"nanoseconds": end - start}, "starting_time": {"nanoseconds_since_epoch": start}, "message_count": total}
    return {
        "version": NEWEST_VERSION,
        "storage_identifier": "mcap",
        **span,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": connection.topic,
                    "type": connection.msgtype,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": dump_qos_v9(offered[connection.id]),
                    "type_description_hash": connection.digest,
                },
                "message_count": counts[connection.id],
            }
            for connection in connections
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file],
        "files": [{"path": file, **span}],
        "custom_data": None,
        "ros_distro": "rosbags",
    }
