# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Class names of usual segmentation models as MSeg's universal ones, so that OccLE's class tables know them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

USUAL: Mapping[str, tuple[str, ...]] = {
    "sidewalk": ("sidewalk_pavement",),
    "rider": ("rider_other", "bicyclist", "person"),
    "guard_rail": ("guard_rail", "railing_banister"),
    "tree": ("vegetation",),
    "plant": ("vegetation",),
    "grass": ("terrain",),
    "earth": ("terrain",),
    "house": ("building",),
    "skyscraper": ("building",),
    "railing": ("railing_banister",),
    "streetlight": ("streetlight", "pole"),
    "street_light": ("streetlight", "pole"),
    "minibike": ("motorcycle",),
    "van": ("car",),
    "caravan": ("trailer",),
    "windowpane": ("window", "building"),
}
"""Names of Cityscapes and ADE20K -> universal names, of which the first one counts that the task's class table has."""


def universal_name(name: str, known: Collection[str], rename: Mapping[str, str]) -> str | None:
    """The universal name of a model's class; None where it stands for nothing that the task's class table has.

    Args:
        name: lower case, words joined by underscores.
        known: universal names of the task's class table.
        rename: names of one's own; they go before the usual ones.
    """
    for candidate in (rename.get(name, name), *USUAL.get(name, ())):
        if candidate in known:
            return candidate
    return None


def parse_renames(texts: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """`NAME=UNIVERSAL` pairs of a command line.

    Raises:
        ValueError: no pair, or a universal name that the task's class table lacks.
    """
    found = {}
    for text in texts:
        name, separator, universal = (part.strip().lower().replace(" ", "_") for part in text.partition("="))
        if not separator or not name or universal not in known:
            raise ValueError(
                f"--rename {text}: give CLASS=UNIVERSAL, such as --rename footpath=sidewalk_pavement; universal names here are "
                f"{', '.join(sorted(known))}"
            )
        found[name] = universal
    return found
