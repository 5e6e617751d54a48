"""Class names in parameters -> class ids."""

from __future__ import annotations

from collections.abc import Sequence

from occle_core.taxonomy import Taxonomy
from occle_ros.config.groups import ConfigError

USUALLY_DRIVABLE = ("road", "parking", "driveable_surface")


def class_ids(names: Sequence[str], taxonomy: Taxonomy, parameter: str) -> list[int]:
    """Class names -> ids.

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
    """What parameter occupancy_grid.drivable means; no names: those of the usual drivable classes that the network knows.

    Raises:
        ConfigError: as `class_ids`.
    """
    chosen = names or [name for name in USUALLY_DRIVABLE if name in taxonomy.names]
    return class_ids(chosen, taxonomy, "occupancy_grid.drivable")


def check_classes(shown: Sequence[str], drivable: Sequence[str], taxonomy: Taxonomy) -> None:
    """Refuse class names of parameters show.classes and occupancy_grid.drivable that the network does not know.

    Raises:
        ConfigError: as `class_ids`.
    """
    class_ids(shown, taxonomy, "show.classes")
    drivable_ids(drivable, taxonomy)
