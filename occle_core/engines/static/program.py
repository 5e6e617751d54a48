# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A bundle's network as one program of fixed shapes, as engines need it."""

from __future__ import annotations

from occle_core.bundle import BundleSpec
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.capacities import Capacities
from occle_core.networks.protocol import Network, NetworkInputs, Program
from occle_core.networks.registry import network_class
from occle_core.taxonomy import load as load_taxonomy

OUTPUTS = ("labels", "confidence", "counts")


def program_for(spec: BundleSpec, network: Network) -> Program:
    """A bundle's network in its static form, for one frame.

    Raises:
        EngineError: the bundle has no capacities.
    """
    program = network.program(capacities_of(spec), load_taxonomy(spec.taxonomy).free, sensor_cell(spec))
    return program.eval()


def input_names(spec: BundleSpec) -> tuple[str, ...]:
    """The program's arguments, in their order."""
    return network_class(spec.network).program_class.INPUTS


def pad(spec: BundleSpec, inputs: NetworkInputs, capacities: Capacities) -> Arrays:
    """One frame's inputs in a program's shapes, see `Network.pad`.

    Args:
        spec: of the bundle.
        inputs: of one frame.
        capacities: of the program.
    """
    if inputs.batch_size != 1:
        raise ValueError(f"a program takes one frame, not {inputs.batch_size}")
    return network_class(spec.network).pad(inputs, capacities, sensor_cell(spec))


def sensor_cell(spec: BundleSpec) -> tuple[float, float]:
    """Position of the grid frame's origin, and so about of the sensor, in the grid: x, y in cells."""
    return (-spec.grid.origin[0] / spec.grid.resolution, -spec.grid.origin[1] / spec.grid.resolution)


def capacities_of(spec: BundleSpec) -> Capacities:
    """The bundle's capacities.

    Raises:
        EngineError: it has none.
    """
    if spec.capacities is None:
        raise EngineError(
            f"the bundle {spec.name} was never calibrated for engines of fixed shapes; run "
            "`occle-train export BUNDLE --data DATASET` on frames of your sensors, or use engine: torch"
        )
    return spec.capacities
