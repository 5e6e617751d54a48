# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Errors of all folders: their base, and those that several folders raise."""

from __future__ import annotations


class OccleError(Exception):
    """Something that a user can fix: the message says what happened, where, and the remedy."""


class EngineError(OccleError, RuntimeError):
    """An engine, or the compiled kernels, that cannot work here; the message says why and what would help."""
