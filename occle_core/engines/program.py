"""The whole network as one program of fixed shapes: what engines need of a network, whichever of the two it is."""

from __future__ import annotations

from occle_core.bundle import BundleSpec
from occle_core.capacities import Capacities
from occle_core.engines import minkocc_program, occle_program
from occle_core.engines.base import EngineError
from occle_core.engines.minkocc_program import MinkOccProgram
from occle_core.engines.occle_program import OccleProgram
from occle_core.engines.padding import Arrays
from occle_core.nn.networks import Network, NetworkInputs
from occle_core.nn.occle import OccLE
from occle_core.nn.occle_config import OccleConfig
from occle_core.nn.occle_inputs import OccleInputs
from occle_core.taxonomy import load as load_taxonomy

OUTPUTS = ("labels", "confidence", "counts")

Program = MinkOccProgram | OccleProgram


def program_for(spec: BundleSpec, network: Network) -> Program:
    """A bundle's network in its static form, for one frame.

    Raises:
        EngineError: the bundle has no capacities.
    """
    capacities, center, free = capacities_of(spec), sensor_cell(spec), load_taxonomy(spec.taxonomy).free
    if isinstance(network, OccLE):
        return OccleProgram(network, capacities, free, center).eval()
    assert not isinstance(spec.network, OccleConfig)
    return MinkOccProgram(network, spec.network, capacities, free, center).eval()


def input_names(spec: BundleSpec) -> tuple[str, ...]:
    """The program's arguments, in their order."""
    return OccleProgram.INPUTS if isinstance(spec.network, OccleConfig) else MinkOccProgram.INPUTS


def pad(inputs: NetworkInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One frame's inputs in a program's shapes, by name in the order of its arguments; the farthest voxels and points are left
    out where they do not fit.

    Args:
        inputs: of one frame.
        capacities: of the program.
        center: see `sensor_cell`.
    """
    if inputs.batch_size != 1:
        raise ValueError(f"a program takes one frame, not {inputs.batch_size}")
    if isinstance(inputs, OccleInputs):
        return occle_program.padded(inputs, capacities, center)
    return minkocc_program.padded(inputs, capacities, center)


def sensor_cell(spec: BundleSpec) -> tuple[float, float]:
    """Where the grid frame's origin, and so about the sensor, lies in the grid: x, y in cells."""
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
