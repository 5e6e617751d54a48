# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""rig.yaml: reading with one line per fault, and writing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError

from occle_core.atomic_file import atomic_write
from occle_core.errors import OccleError
from occle_core.rig.description import Rig
from occle_core.rig.pose import pose_matrix, roll_pitch_yaw
from occle_core.taxonomy import Taxonomy, TaxonomyConfig, load, read_classes

RIG_FILE = "rig.yaml"
_HINT = "see docs/reference/rig.md"


class RigError(OccleError, ValueError):
    """A rig that cannot be read or used; the message names the place and the remedy."""


def read_rig(path: Path) -> Rig:
    """Read and validate a rig file, or the rig.yaml of a folder.

    Raises:
        RigError: unreadable, an unknown field (the closest known one is suggested), or a value that does not fit.
    """
    path = path / RIG_FILE if path.is_dir() else path
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RigError(f"there is no rig file {path}; `occle rig BAG -o {path}` drafts one from a recording") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise RigError(f"rig file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    try:
        return Rig.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors()[:5])
        raise RigError(f"rig file {path}: {problems}; {_HINT}") from error


def read_taxonomy(rig: Rig, path: Path) -> Taxonomy | None:
    """The rig's class list; None where it names none. Arguments and errors as `class_list`."""
    found = class_list(rig, path)
    return None if found is None else load(found)


def class_list(rig: Rig, path: Path) -> str | TaxonomyConfig | None:
    """The rig's class list: the name of a shipped one, or one of your own.

    Args:
        rig: as read.
        path: of the rig file or its folder, which a class list of your own is relative to.

    Raises:
        RigError: no shipped class list of this name, and no file.
    """
    if not rig.classes:
        return None
    try:
        return load(rig.classes).name
    except KeyError as error:
        file = (path if path.is_dir() else path.parent) / rig.classes
        if not file.is_file():
            raise RigError(f"rig file {path}: classes: {error.args[0]}, and there is no file {file}") from None
    try:
        return read_classes(file)
    except ValueError as error:
        raise RigError(str(error)) from error


def write_rig(rig: Rig, path: Path, comments: Sequence[str] = ()) -> None:
    """Write a rig file, atomically.

    Args:
        rig: what is written: the fields that were given, in the order of the description.
        path: of the file.
        comments: lines for the top.

    Raises:
        OSError: it cannot be written.
    """
    text = "\n".join([*(f"# {line}".rstrip() for line in comments), *_lines(rig, 0)]) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def _lines(part: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name in type(part).model_fields:
        value = getattr(part, name)
        if name not in part.model_fields_set or value is None:
            continue
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1)
        elif isinstance(value, dict):
            yield f"{indent}{name}:{'' if value else ' {}'}"
            for key, member in value.items():
                yield f"{indent}  {key}:"
                yield from _lines(member, depth + 2)
        else:
            yield f"{indent}{name}: {_pose_text(value) if name == 'pose' else _text(value)}"


def _pose_text(rows: Any) -> str:
    """Six numbers where they are the same to a micrometre and a microradian, else the matrix."""
    T = np.array(rows)
    six = [round(float(v), 6) + 0.0 for v in (*T[:3, 3], *roll_pitch_yaw(T[:3, :3]))]
    return _text(six if np.allclose(pose_matrix(*six), T, atol=1e-6) else T.tolist())


def _text(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000).removesuffix("...\n").strip()
    return text if not isinstance(value, str) or text[0] in "'\"" else f'"{value}"'


def _explain(problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    name = ".".join(place) or "the file"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(place[-1], _known(place[:-1]), n=1)
        return f"there is no field {name}" + (f"; did you mean {close[0]}?" if close else "")
    if problem["type"] == "missing":
        return f"{name} is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = problem["input"]
    return f"{name}: {message}" + (f" (got {given!r})" if isinstance(given, (str, int, float)) else "")


def _known(place: Sequence[str]) -> list[str]:
    """Fields of the part of the description at a place."""
    part: Any = Rig
    for step in place:
        annotation = part.model_fields[step].annotation if hasattr(part, "model_fields") and step in part.model_fields else part
        if annotation is part:
            continue  # the name of a sensor
        models = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        part = models[0] if models else part
    return list(part.model_fields)
