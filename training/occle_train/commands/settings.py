# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Configurations from files, names and `--set key=value`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from occle_train.configs import find_config

M = TypeVar("M", bound=BaseModel)

NAMED = 5
"""Wrong values that an error names."""


def read_yaml(file: Path | None) -> dict[str, Any]:
    """A configuration file's values; none without a file.

    Raises:
        ValueError: it is no YAML file of names and values.
    """
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{file} must hold names and values (steps: 4000), not {type(content).__name__}")
    return content or {}


def merged_settings(base: dict[str, Any], config: str | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Values of a run, a configuration and `key=value` assignments; the later ones win.

    Args:
        base: values of the run that is resumed; empty for a new one.
        config: file or name of a configuration.
        assignments: `key=value`, dotted keys for values inside others; values are YAML.

    Raises:
        ValueError: an assignment without a key or "=".
    """
    content = _updated(base, read_yaml(find_config(config)) if config else {})
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator or not all(key.split(".")):
            raise ValueError(f"--set {text}: give key=value, such as --set batch_size=4 or --set recipe.alpha=0.2")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {text}: {value!r} is no YAML value") from error
        if isinstance(parsed, str):
            parsed = _number(parsed)
        for part in reversed(key.split(".")):
            parsed = {part: parsed}
        content = _updated(content, parsed)
    return content


def parse_config(kind: type[M], content: dict[str, Any], source: str) -> M:
    """A configuration of its type.

    Args:
        kind: the type.
        content: its values.
        source: where they come from, for the message.

    Raises:
        ValueError: unknown names or impossible values, in one line.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']} (it is {_short(e['input'])})" for e in error.errors()]
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(f"{source}: {'; '.join(wrong[:NAMED])}{more}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(text: str) -> Any:
    """YAML reads 1e-4 as text: a number needs a dot there."""
    try:
        return float(text)
    except ValueError:
        return text


def _updated(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Nested values with those of another; neither is changed."""
    result = dict(base)
    for key, value in other.items():
        inner = result.get(key)
        result[key] = _updated(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result
