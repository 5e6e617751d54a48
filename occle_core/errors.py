# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Errors that several folders raise."""

from __future__ import annotations


class EngineError(RuntimeError):
    """An engine, or the compiled kernels, that cannot work here; the message says why and what would help."""
