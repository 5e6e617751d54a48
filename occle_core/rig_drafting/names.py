# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording are cameras, which CameraInfo belongs to which, and what to call them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from occle_core.datasets.recordings.bag_index import COMPRESSED, IMAGE

_COMMON = {"image", "image_raw", "image_color", "image_rect", "image_rect_color", "compressed", "points", "points_raw", "cloud",
           "scan", "pointcloud", "point_cloud", "raw", "rect", "color", "rgb"}  # fmt: skip


def image_topics(kinds: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Topics of colour images, one of each camera, and notes on those left out.

    Args:
        kinds: topic -> message type.
    """
    chosen, notes = [], []
    for topic, kind in sorted(kinds.items()):
        if kind not in (IMAGE, COMPRESSED):
            continue
        if re.search(r"depth|disparity|mask|infra|overlay|debug", topic, re.IGNORECASE):
            notes.append(f"{topic} is left out: by its name it is no colour image")
        elif kind == IMAGE and f"{topic}/compressed" in kinds:
            notes.append(f"{topic} is left out: {topic}/compressed is there")
        else:
            chosen.append(topic)
    return chosen, notes


def camera_infos(images: Sequence[str], infos: Sequence[str]) -> dict[str, str]:
    """Image topic -> its CameraInfo topic: the one with the longest common namespace, then of the most similar name.

    "" where none shares any, and where it shares more with another image: then it is that camera's.
    """
    common = {(image, info): _common(_parts(image), _parts(info)) for image in images for info in infos}
    found = {}
    for image in images:
        best = max(infos, key=lambda info: (common[image, info], _likeness(image, info)), default="")
        is_own = best and common[image, best] == max(common[other, best] for other in images)
        found[image] = best if is_own and (common[image, best] or len(infos) == len(images) == 1) else ""
    return found


def sensor_names(topics: Sequence[str], kind: str) -> dict[str, str]:
    """Topic -> a short name, each once: the parts of the topic that tell it from the others."""
    names: dict[str, str] = {}
    for topic in topics:
        telling = [part for part in _parts(topic) if part.lower() not in _COMMON] or [kind]
        name = re.sub(r"\W", "_", telling[-1] if telling[-1].lower() != kind or len(telling) == 1 else "_".join(telling[-2:]))
        name = name if name[:1].isalpha() or name.startswith("_") else f"{kind}_{name}"
        if name in names.values():
            name = re.sub(r"\W", "_", "_".join(telling))
        number, unique = 2, name
        while unique in names.values():
            unique, number = f"{name}_{number}", number + 1
        names[topic] = unique
    return names


def _parts(topic: str) -> list[str]:
    return [part for part in topic.split("/") if part]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
