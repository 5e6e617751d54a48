# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Class ids of the class names in parameters."""

from __future__ import annotations

from collections.abc import Sequence

from occle_core.mapping.classes import ground, people
from occle_core.taxonomy import Taxonomy
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError

DEFAULT_DRIVABLE = ("road", "parking", "driveable_surface", "floor")


def class_ids(names: Sequence[str], taxonomy: Taxonomy, parameter: str) -> list[int]:
    """Ids of classes, by name.

    Raises:
        ConfigError: the network has no such class; the message names the parameter and lists the classes.
    """
    unknown = [name for name in names if name not in taxonomy.names]
    if unknown:
        raise ConfigError(
            f"parameter {parameter}: the network has no class {', '.join(unknown)}; it has {', '.join(taxonomy.names)}"
        )
    return [taxonomy.id(name) for name in names]


def drivable_ids(names: Sequence[str], taxonomy: Taxonomy) -> list[int]:
    """Class ids of parameter occupancy_grid.drivable; no names: those of `DEFAULT_DRIVABLE` that the network has.

    Raises:
        ConfigError: as `class_ids`.
    """
    chosen = names or [name for name in DEFAULT_DRIVABLE if name in taxonomy.names]
    return class_ids(chosen, taxonomy, "occupancy_grid.drivable")


def ground_ids(names: Sequence[str], taxonomy: Taxonomy) -> list[int]:
    """Class ids of parameter obstacles.ground; no names: all ground of the network's class list.

    Raises:
        ConfigError: as `class_ids`.
    """
    chosen = names or sorted(ground(taxonomy))
    return class_ids(chosen, taxonomy, "obstacles.ground")


def map_drivable(names: Sequence[str], taxonomy: Taxonomy) -> frozenset[str]:
    """Class names of parameter map.occupancy_grid.drivable; no names: all ground.

    Raises:
        ConfigError: as `class_ids`, or a class that is no ground, on which the map would never let anybody drive.
    """
    class_ids(names, taxonomy, "map.occupancy_grid.drivable")
    if other := sorted(frozenset(names) - ground(taxonomy)):
        raise ConfigError(
            f"parameter map.occupancy_grid.drivable: {', '.join(other)} is no ground of class list {taxonomy.name} (it has "
            f"{', '.join(sorted(ground(taxonomy))) or 'none'}); a class list of your own names it under ground: [...]"
        )
    return frozenset(names) or ground(taxonomy)


def map_keepout(names: Sequence[str], taxonomy: Taxonomy) -> frozenset[str]:
    """Class names of parameter map.keepout_mask.classes.

    Raises:
        ConfigError: as `class_ids`.
    """
    class_ids(names, taxonomy, "map.keepout_mask.classes")
    return frozenset(names)


def map_slow(names: Sequence[str], taxonomy: Taxonomy) -> frozenset[str]:
    """Class names of parameter map.speed_mask.classes; no names: people and what they ride.

    Raises:
        ConfigError: as `class_ids`.
    """
    class_ids(names, taxonomy, "map.speed_mask.classes")
    return frozenset(names) or people(taxonomy)


def check_classes(config: NodeConfig, taxonomy: Taxonomy) -> None:
    """Validate the class names of parameters show.classes, occupancy_grid.drivable, obstacles.ground and those of the map.

    Raises:
        ConfigError: as `class_ids`.
    """
    class_ids(config.show.classes, taxonomy, "show.classes")
    drivable_ids(config.occupancy_grid.drivable, taxonomy)
    ground_ids(config.obstacles.ground, taxonomy)
    map_drivable(config.map.occupancy_grid.drivable, taxonomy)
    map_keepout(config.map.keepout_mask.classes, taxonomy)
    map_slow(config.map.speed_mask.classes, taxonomy)
