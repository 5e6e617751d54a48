"""The benchmarks run by hand; that each of them still finds what it imports is checked here."""

from importlib import import_module
from pathlib import Path

import pytest

MODULES = sorted(file.stem for file in (Path(__file__).parents[2] / "benchmark").glob("*.py") if file.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_it_imports(name):
    assert import_module(f"benchmark.{name}").__doc__
