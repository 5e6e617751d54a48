# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Forklifts, pallet trucks, machines and benches: x forward, y left, base on z = 0, centred."""

from __future__ import annotations

import numpy as np

from occle_train.streets.shapes.mesh import Material, Mesh, ball, box, extrude, join, shifted, surface, taper, tone, tube, wheel
from occle_train.streets.shapes.storage import pallet_load

DARK = (0.03, 0.03, 0.035)
_PAINTS = ((0.75, 0.42, 0.02), (0.65, 0.06, 0.03), (0.75, 0.6, 0.05), (0.25, 0.27, 0.3), (0.1, 0.3, 0.15))


def forklift(rng: np.random.Generator) -> Mesh:
    """A counterbalance forklift with or without driver and load; the forks point to +x."""
    colour = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.8, 1.1)
    w = rng.uniform(0.5, 0.6)
    body = [(-1.25, 0.25), (0.55, 0.25), (0.55, 0.75), (0.2, 0.8), (-0.35, 1.05), (-1.15, 1.1), (-1.25, 0.9)]
    parts = [surface(extrude(body, -w, w), "forklift", colour, Material.PAINT)]
    guard = [tube((x, y, 0.8), (x + 0.1, y, 2.05), 0.035, 0.035, 4) for x in (-0.9, 0.35) for y in (-w + 0.06, w - 0.06)]
    roof = [box(-0.85, 0.5, y - 0.03, y + 0.03, 2.04, 2.1) for y in np.linspace(-w + 0.06, w - 0.06, 5)]
    lift = rng.uniform(0.05, 0.3)
    mast = [box(0.6, 0.72, y - 0.06, y + 0.06, 0.08, 2.1) for y in (-0.32, 0.32)]
    mast += [box(0.72, 0.78, -0.45, 0.45, lift, lift + 0.5), box(0.62, 0.7, -0.32, 0.32, 1.95, 2.05)]
    forks = [box(0.78, 1.85, y - 0.06, y + 0.06, lift, lift + 0.05) for y in (-0.25, 0.25)]
    parts.append(surface(np.concatenate([*guard, *roof, *mast, *forks]), "forklift", DARK, Material.SHINY))
    for x, radius in ((0.35, 0.3), (-0.85, 0.24)):
        for side in (-1, 1):
            parts.append(surface(wheel(x, side * (w - 0.05), radius, 0.2), "forklift", DARK))
    parts.append(surface(box(-0.6, -0.15, -0.22, 0.22, 0.95, 1.1), "forklift", DARK))
    if rng.random() < 0.75:
        top = tone(rng, 0.1, 0.6)
        parts.append(surface(taper((-0.5, -0.25, -0.2, 0.2, 1.05), (-0.5, -0.3, -0.24, 0.24, 1.6)), "forklift", top))
        parts.append(surface(ball((-0.38, 0, 1.78), (0.11, 0.1, 0.13)), "forklift", (0.45, 0.3, 0.22)))
    if rng.random() < 0.35:
        load = pallet_load(rng, rng.uniform(0.5, 1.2))
        parts.append(Mesh(shifted(load.tri, x=1.4, z=lift), load.cls, load.mat, load.rgb, load.par, load.inst))
    return join(parts)


def pallet_truck(rng: np.random.Generator) -> Mesh:
    """A hand pallet truck, which counts as a forklift."""
    colour = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))])
    frame = [box(-0.5, 0.65, y - 0.08, y + 0.08, 0.05, 0.13) for y in (-0.19, 0.19)] + [box(-0.7, -0.5, -0.25, 0.25, 0.05, 0.45)]
    frame.append(tube((-0.65, 0, 0.4), (-0.85, 0, 1.2), 0.03, 0.03, 5))
    frame.append(tube((-0.87, -0.18, 1.2), (-0.87, 0.18, 1.2), 0.03, 0.03, 5))
    return join([
        surface(np.concatenate(frame), "forklift", colour, Material.PAINT),
        surface(wheel(-0.62, 0, 0.09, 0.16, 8), "forklift", DARK),
    ])  # fmt: skip


def machine(rng: np.random.Generator) -> Mesh:
    """A machine tool, press, generator or conveyor, its front towards -y."""
    long, deep, high = rng.uniform(1.6, 3.2), rng.uniform(0.5, 0.9), rng.uniform(1.3, 2.1)
    colour = np.clip(tone(rng, 0.2, 0.6), 0.02, 0.9)
    kind = rng.choice(["cabinet", "press", "conveyor", "generator"])
    if kind == "conveyor":
        legs = [
            box(x - 0.04, x + 0.04, y - 0.04, y + 0.04, 0, 0.75) for x in (-long / 2 + 0.1, long / 2 - 0.1) for y in (-0.3, 0.3)
        ]
        rails = [box(-long / 2, long / 2, y - 0.03, y + 0.03, 0.65, 0.8) for y in (-0.35, 0.35)]
        rollers = [tube((x, -0.33, 0.76), (x, 0.33, 0.76), 0.03, 0.03, 5) for x in np.arange(-long / 2 + 0.1, long / 2, 0.2)]
        return surface(np.concatenate([*legs, *rails, *rollers]), "machine", (0.35, 0.37, 0.4), Material.SHINY)
    parts = [surface(box(-long / 2, long / 2, -deep, deep, 0.05, high), "machine", colour, Material.PAINT)]
    parts.append(surface(box(-long / 2 + 0.05, long / 2 - 0.05, -deep + 0.05, deep - 0.05, 0, 0.05), "machine", DARK))
    if kind == "cabinet":
        window = box(-long * 0.3, long * 0.15, -deep - 0.012, -deep, high * 0.45, high * 0.85)
        parts.append(surface(window, "machine", (0.05, 0.06, 0.07), Material.GLASS))
        panel = box(long * 0.25, long * 0.42, -deep - 0.12, -deep, high * 0.5, high * 0.9)
        parts.append(surface(panel, "machine", DARK))
    elif kind == "press":
        head = box(-long * 0.3, long * 0.3, -deep - 0.02, deep, high, high + 0.4)
        parts.append(surface(head, "machine", np.array(_PAINTS[0]), Material.PAINT))
        parts.append(surface(box(-long * 0.4, long * 0.4, -deep - 0.3, -deep, 0, 0.85), "machine", colour * 0.6))
    else:
        grille = [box(x, x + 0.04, -deep - 0.015, -deep, 0.3, high - 0.2) for x in np.arange(-long * 0.45, long * 0.45, 0.12)]
        parts.append(surface(np.concatenate(grille), "machine", DARK))
        parts.append(surface(tube((long * 0.3, 0, high), (long * 0.3, 0, high + 0.5), 0.07, 0.07, 6), "machine", (0.3, 0.3, 0.3)))
    return join(parts)


def bench(rng: np.random.Generator) -> Mesh:
    """A workbench with drawers, tools and boxes on it, its front towards -y; the boxes are goods."""
    long = rng.uniform(1.2, 2.2)
    top = [box(-long / 2, long / 2, -0.35, 0.35, 0.84, 0.9), box(-long / 2, -long / 2 + 0.5, -0.3, 0.33, 0.1, 0.84)]
    top += [box(x - 0.03, x + 0.03, y - 0.03, y + 0.03, 0, 0.84) for x in (-long / 2 + 0.04, long / 2 - 0.04) for y in (-0.3, 0.3)]
    top.append(box(-long / 2, long / 2, 0.32, 0.35, 0.9, 1.5))
    parts = [surface(np.concatenate(top), "machine", tone(rng, 0.15, 0.5))]
    for x in np.arange(-long / 2 + 0.2, long / 2 - 0.2, 0.45):
        if rng.random() < 0.5:
            size = rng.uniform(0.08, 0.16)
            parts.append(surface(box(x - size, x + size, -0.1, 0.2, 0.9, 0.9 + 1.5 * size), "goods", tone(rng, 0.1, 0.6)))
    return join(parts)
