# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Roles of classes in a map: which move, which are ground. By name, so that all taxonomies share them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from occle_core.taxonomy import Taxonomy

VEHICLES = frozenset({"car", "truck", "bus", "trailer", "construction_vehicle", "other-vehicle", "vehicle", "forklift"})
"""Vehicles whose parts may carry different classes of this set and still are one object."""
PEOPLE = frozenset({"person", "pedestrian", "bicycle", "motorcycle", "bicyclist", "motorcyclist"})
"""People and what they ride."""
DYNAMIC = VEHICLES | PEOPLE
"""Classes whose objects may move: forgotten within seconds when unobserved."""
GROUND = frozenset({"road", "parking", "sidewalk", "other-ground", "terrain", "driveable_surface", "other_flat", "floor"})
"""Classes to stand on: never obstacles."""


def lookup(taxonomy: Taxonomy, names: Collection[str]) -> NDArray[np.bool_]:
    """(256,) bool: True at the ids of those of `names` that the taxonomy has."""
    table = np.zeros(256, np.bool_)
    table[[number for number, name in enumerate(taxonomy.names) if name in names]] = True
    return table
