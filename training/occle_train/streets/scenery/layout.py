# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The street itself: its course, its cross-section, and the height and class of its ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_train.streets.shapes.classes import ID

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GroundStrip:
    """A band of ground beside the road's middle: from |d| = inner to outer, `raised` metres above the carriageway."""

    inner: float
    outer: float
    cls: str
    raised: float


@dataclass(frozen=True)
class Junction:
    """A side road at arc length s; `sides` are the sides (+1 left, -1 right) that it leaves to."""

    s: float
    half: float
    sides: tuple[int, ...]


@dataclass(frozen=True)
class StreetStyle:
    """A kind of street: how often things stand beside it, 0..1."""

    name: str
    buildings: float
    gap: float
    storeys: tuple[int, int]
    flat_roofs: float
    setback: tuple[float, float]
    trees: float
    hedges: float
    fences: float
    parked: float
    people: float


STYLES = (
    StreetStyle("suburb", 0.95, 3.5, (1, 3), 0.1, (1.5, 6.5), 0.6, 0.6, 0.65, 0.36, 0.4),
    StreetStyle("town", 1.0, 0.5, (2, 5), 0.3, (0.0, 2.0), 0.35, 0.15, 0.2, 0.55, 1.0),
    StreetStyle("leafy", 0.7, 8.0, (1, 3), 0.1, (4.0, 11.0), 1.0, 0.75, 0.5, 0.25, 0.3),
    StreetStyle("business", 0.9, 8.0, (2, 8), 0.9, (5.0, 16.0), 0.55, 0.4, 0.4, 0.3, 0.5),
    StreetStyle("rural", 0.22, 25.0, (1, 2), 0.1, (4.0, 20.0), 0.85, 0.4, 0.4, 0.1, 0.15),
)


class Street:
    """A street in coordinates (s, d): arc length along its middle and offset to the left, metres.

    Args:
        rng: source of every choice.
        start, end: range of s that is built.
        width: how far to either side the ground reaches.
    """

    def __init__(self, rng: np.random.Generator, start: float, end: float, width: float = 54.0) -> None:
        self.start, self.end, self.width = start, end, width
        self.style = STYLES[int(rng.choice(len(STYLES), p=(0.32, 0.2, 0.26, 0.1, 0.12)))]
        self._course(rng)
        self._cross_section(rng)
        self._ground_shape(rng)

    def _course(self, rng: np.random.Generator) -> None:
        self._s = np.arange(self.start - 10, self.end + 10, 0.5)
        bend = np.zeros_like(self._s)
        for _ in range(3):
            bend += rng.normal(0, 1 / 420) * np.sin(self._s / rng.uniform(18, 60) + rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.35:
            bend += rng.choice([-1, 1]) * rng.uniform(1 / 300, 1 / 75)
        bend = np.clip(bend, -1 / 62, 1 / 62)
        heading = np.cumsum(bend) * 0.5
        middle = int(np.searchsorted(self._s, 0.0))
        self._heading = heading - heading[middle]
        xy = np.stack([np.cumsum(np.cos(self._heading)), np.cumsum(np.sin(self._heading))], 1) * 0.5
        self._xy = xy - xy[middle]

    def _cross_section(self, rng: np.random.Generator) -> None:
        self.lane = rng.uniform(2.8, 3.6)
        self.lanes = int(rng.choice([1, 2], p=[0.78, 0.22]))
        self.median = rng.uniform(1.0, 3.0) if self.lanes == 2 and rng.random() < 0.45 else 0.0
        self.median_cls = str(rng.choice(["terrain", "other_ground"]))
        self.edge = self.lanes * self.lane + self.median / 2 + rng.uniform(0.0, 0.6)
        self.strips: dict[int, list[GroundStrip]] = {}
        kerb = rng.uniform(0.06, 0.16)
        for side in (1, -1):
            at = self.edge
            strips: list[GroundStrip] = []

            def add(width: float, cls: str, raised: float, strips: list[GroundStrip] = strips) -> None:
                nonlocal at
                strips.append(GroundStrip(at, at + width, cls, raised))
                at += width

            if self.style.name == "rural" and rng.random() < 0.6:
                add(rng.uniform(0.5, 1.5), "terrain", 0.0)
                if rng.random() < 0.4:
                    add(rng.uniform(1.5, 2.5), "sidewalk", 0.03)
            else:
                if rng.random() < 0.15 + 0.5 * self.style.parked:
                    add(
                        rng.choice([rng.uniform(2.0, 2.5), rng.uniform(4.8, 5.4)], p=[0.75, 0.25]),
                        "parking",
                        rng.choice([0.0, 0.02, kerb]),
                    )
                if rng.random() < 0.35:
                    add(rng.uniform(0.8, 2.5), str(rng.choice(["terrain", "other_ground"], p=[0.75, 0.25])), kerb + 0.02)
                add(rng.uniform(1.5, 5.0), "sidewalk", kerb)
                if rng.random() < 0.12:
                    add(rng.uniform(0.8, 2.0), "other_ground", kerb)
            yard = rng.uniform(*self.style.setback)
            yard_cls = str(rng.choice(["terrain", "sidewalk", "other_ground"], p=[0.68, 0.24, 0.08]))
            add(max(yard, 0.3), yard_cls, kerb + rng.choice([0.0, 0.1]))
            strips.append(GroundStrip(at, self.width, "terrain" if rng.random() < 0.8 else "sidewalk", kerb + 0.05))
            self.strips[side] = strips
        self.junctions: list[Junction] = []
        s = rng.uniform(-30, 40)
        while s < self.end - 20:
            sides = ((1, -1), (1,), (-1,))[int(rng.choice(3, p=[0.4, 0.3, 0.3]))]
            self.junctions.append(Junction(s, rng.uniform(2.6, 4.2), sides))
            s += rng.uniform(45, 130)
        self.driveways = [
            (float(x), int(rng.choice([-1, 1])), rng.uniform(1.4, 2.2))
            for x in np.arange(self.start, self.end, 14.0) + rng.uniform(-5, 5, len(np.arange(self.start, self.end, 14.0)))
        ]

    def _ground_shape(self, rng: np.random.Generator) -> None:
        self._grade = [(rng.normal(0, 0.75) * 0.02 * length, length, rng.uniform(0, 6)) for length in (30.0, 70.0)]
        self._tilt = rng.normal(0, 0.012)
        self._crown = rng.uniform(0.005, 0.025)
        self._side_slope = {side: float(np.clip(rng.normal(-0.005, 0.045), -0.06, 0.1)) for side in (1, -1)}
        self._rough = rng.uniform(0.02, 0.16)
        self._bumps = [(rng.normal(size=2) / rng.uniform(1.5, 12), rng.uniform(0, 6)) for _ in range(10)]

    def at(self, s: ArrayLike, d: ArrayLike = 0.0) -> tuple[Floats, Floats]:
        """World xy (N, 2) and street heading (N,) at street coordinates s, d (N,)."""
        s, d = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        heading = np.interp(s, self._s, self._heading)
        x, y = np.interp(s, self._s, self._xy[:, 0]), np.interp(s, self._s, self._xy[:, 1])
        return np.stack([x - d * np.sin(heading), y + d * np.cos(heading)], -1), heading

    def base(self, s: ArrayLike, d: ArrayLike) -> Floats:
        """Ground height before kerbs, metres."""
        s, d = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        z = self._tilt * s
        for amplitude, length, phase in self._grade:
            z = z + amplitude * np.sin(s / length + phase) - amplitude * np.sin(phase)
        out = np.abs(d)
        z = z - self._crown * np.minimum(out, self.edge)
        beyond = np.maximum(out - self.strips[1][0].inner - 3.0, 0.0)
        slope = np.where(d > 0, self._side_slope[1], self._side_slope[-1])
        z = z + slope * 18 * np.tanh(beyond / 18)
        ramp = np.clip(beyond / 5, 0, 1)
        xy, _ = self.at(s, d)
        noise = np.zeros_like(z)
        for wave, phase in self._bumps:
            noise += np.sin(xy @ wave + phase)
        out_z: Floats = z + ramp * noise * self._rough * 0.5
        return out_z

    def ground(self, s: ArrayLike, d: ArrayLike) -> Floats:
        """Ground height with kerbs, metres."""
        s, d = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        _, raised = self.surface_at(s, d)
        return self.base(s, d) + raised

    def surface_at(self, s: ArrayLike, d: ArrayLike) -> tuple[NDArray[np.uint8], Floats]:
        """Ground class and height above the carriageway at street coordinates."""
        s, d = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        cls = np.full(s.shape, ID["road"], np.uint8)
        raised = np.zeros(s.shape)
        if self.median:
            inside = np.abs(d) < self.median / 2
            cls[inside], raised[inside] = ID[self.median_cls], 0.14
        for side in (1, -1):
            out = d * side
            for strip in self.strips[side]:
                inside = (out >= strip.inner) & (out < strip.outer)
                cls[inside], raised[inside] = ID[strip.cls], strip.raised
            last = self.strips[side][-1].inner
            for at, driveway_side, half in self.driveways:
                if driveway_side == side:
                    inside = (np.abs(s - at) < half) & (out >= self.strips[side][0].outer) & (out < last)
                    yard = inside & (cls != ID["sidewalk"])
                    cls[yard], raised[yard] = ID["parking"], 0.06
        for junction in self.junctions:
            off = np.abs(s - junction.s)
            for side in junction.sides:
                out = d * side
                road = (off < junction.half) & (out >= self.edge)
                cls[road], raised[road] = ID["road"], 0.0
                path = (off >= junction.half) & (off < junction.half + 2.0) & (out >= self.edge + 2.5)
                cls[path], raised[path] = ID["sidewalk"], 0.12
            middle = (off < junction.half) & (np.abs(d) < self.edge)
            cls[middle], raised[middle] = ID["road"], 0.0
        return cls, raised

    def clear_of_junctions(self, s: float, side: int, margin: float = 2.5) -> bool:
        """True if s lies outside every side road that leaves to this side."""
        return all(side not in j.sides or abs(s - j.s) > j.half + margin for j in self.junctions)
