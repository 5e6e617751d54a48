# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the tests of engines share."""

import pytest
from lively import lively, street
from occle_train.evaluation.export import calibrate

from occle_core.bundle import load_bundle
from occle_core.engines.torch_graph_engine import exported_of
from occle_core.networks.minkocc.inputs import prepare


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """A cache of the file's own: what one of its tests built is found again by the others."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("OCCLE_CACHE", str(folder))
    yield folder
    patch.undo()


def export_graph(folder):
    lines = []
    spec = lively(folder / "bundle")
    calibrate(folder / "bundle", [prepare(street(spec, seed), spec.voxel_grid, spec.network) for seed in range(3)])
    spec, network, _ = load_bundle(folder / "bundle")
    program = exported_of(spec, network, lines.append, folder / "cache")
    assert exported_of(spec, network, lines.append, folder / "cache") == program
    (folder / "lines").write_text("\n".join(lines))


@pytest.fixture(scope="session")
def graph_bundle(made_once):
    """A bundle's spec and network, its exported program, and the lines of progress."""
    folder = made_once("graph", export_graph)
    spec, network, _ = load_bundle(folder / "bundle")
    return spec, network, exported_of(spec, network, print, folder / "cache"), (folder / "lines").read_text().splitlines()
