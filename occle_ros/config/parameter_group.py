# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Base of the parameter groups, and the error of an invalid configuration."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from occle_core.errors import OccleError

Matrix = Annotated[tuple[float, ...], Field(max_length=16)]


class ConfigError(OccleError, ValueError):
    """Invalid configuration; the message names the parameter and gives the remedy."""


class ParameterGroup(BaseModel):
    """Base of all parameter groups: parameters with a common prefix. An unknown parameter is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def live_parameter(default: Any, description: str, **limits: Any) -> Any:
    """Field of a live parameter, which may change while the node runs. `limits` are pydantic's ge, gt, le, lt."""
    return Field(default, description=description, json_schema_extra={"live": True}, **limits)
