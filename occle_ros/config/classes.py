"""Class ids of the class names in parameters."""

from __future__ import annotations

from collections.abc import Sequence

from occle_core.taxonomy import Taxonomy
from occle_ros.config.groups import ConfigError

DEFAULT_DRIVABLE = ("road", "parking", "driveable_surface")


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


def check_classes(shown: Sequence[str], drivable: Sequence[str], taxonomy: Taxonomy) -> None:
    """Validate the class names of parameters show.classes and occupancy_grid.drivable against the network's.

    Raises:
        ConfigError: as `class_ids`.
    """
    class_ids(shown, taxonomy, "show.classes")
    drivable_ids(drivable, taxonomy)
