# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""transformers, imported when it is needed: most of training works without it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def transformers() -> Any:
    """The package.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("labelling images needs transformers: pip install transformers==5.23.0") from error
