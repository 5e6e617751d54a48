# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Stamps of ROS messages, and the error for messages that cannot be used. Messages are duck-typed."""

from __future__ import annotations

from typing import Any

from occle_core.errors import OccleError

NANOSECONDS = 1_000_000_000


class ConversionError(OccleError, ValueError):
    """A message that cannot be used; the text says what is wrong with it and what would be right."""


def stamp_of(message: Any) -> int:
    """Time of a message with a header, integer nanoseconds."""
    return nanoseconds(message.header.stamp)


def nanoseconds(time: Any) -> int:
    """builtin_interfaces Time -> integer nanoseconds."""
    return int(time.sec) * NANOSECONDS + int(time.nanosec)
