# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Roles of classes in a map: which move, which are ground. By name, for all taxonomies; a class list of one's own names more."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from occle_core.taxonomy import Taxonomy

VEHICLES = frozenset({"car", "truck", "bus", "trailer", "construction_vehicle", "other-vehicle", "vehicle", "forklift"})
"""Vehicles whose parts may carry different classes of this set and still are one object."""
PEOPLE = frozenset({"person", "pedestrian", "bicycle", "motorcycle", "bicyclist", "motorcyclist"})
"""People and what they ride."""
GROUND = frozenset({"road", "parking", "sidewalk", "other-ground", "terrain", "driveable_surface", "other_flat", "floor"})
"""Classes to stand on: never obstacles."""


def ground(taxonomy: Taxonomy) -> frozenset[str]:
    """Names of a taxonomy's classes to stand on."""
    return GROUND.intersection(taxonomy.names).union(taxonomy.ground)


def vehicles(taxonomy: Taxonomy) -> frozenset[str]:
    """Names of a taxonomy's classes of vehicles."""
    return VEHICLES.intersection(taxonomy.names).union(taxonomy.vehicles)


def people(taxonomy: Taxonomy) -> frozenset[str]:
    """Names of a taxonomy's classes of people and what they ride."""
    return PEOPLE.intersection(taxonomy.names).union(taxonomy.people)


def dynamic(taxonomy: Taxonomy) -> frozenset[str]:
    """Names of a taxonomy's classes whose objects may move: forgotten within seconds when unobserved."""
    return vehicles(taxonomy) | people(taxonomy)


def lookup(taxonomy: Taxonomy, names: Collection[str]) -> NDArray[np.bool_]:
    """(256,) bool: True at the ids of those of `names` that the taxonomy has."""
    table = np.zeros(256, np.bool_)
    table[[number for number, name in enumerate(taxonomy.names) if name in names]] = True
    return table
