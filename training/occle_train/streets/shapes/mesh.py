# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Triangle meshes with a class, material and colour per triangle, and the primitives that every shape is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_train.streets.shapes.classes import ID

Triangles = NDArray[np.float32]
"""(N, 3, 3) float32 corners, metres."""


class Material(IntEnum):
    """Material of a surface, by which it is shaded."""

    PLAIN = 0
    ASPHALT = 1
    SLABS = 2
    GRASS = 3
    FACADE = 4
    FOLIAGE = 5
    PAINT = 6
    GLASS = 7
    BRICK = 8
    BARK = 9
    MARKING = 10
    COBBLE = 11
    ROOF = 12
    SHINY = 13


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles and what each of them is.

    Args:
        tri: (N, 3, 3) float32 corners, metres.
        cls: (N,) uint8 internal class.
        mat: (N,) uint8 Material.
        rgb: (N, 3) float32 linear albedo in 0..1.
        par: (N, 4) float32 material parameters (facades: base z, window pitch, storey height, phase).
        inst: (N,) uint16 instance number, 0 for stuff.
    """

    tri: Triangles
    cls: NDArray[np.uint8]
    mat: NDArray[np.uint8]
    rgb: NDArray[np.float32]
    par: NDArray[np.float32]
    inst: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.tri)

    def moved(self, T: NDArray[np.float64]) -> Mesh:
        """The mesh after the rigid motion T (4, 4)."""
        tri = (self.tri @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)).astype(np.float32)
        par = self.par.copy()
        par[:, 0] += np.float32(T[2, 3])
        return Mesh(tri, self.cls, self.mat, self.rgb, par, self.inst)

    def at(self, chosen: NDArray[np.bool_]) -> Mesh:
        """The triangles of a mask (N,)."""
        return Mesh(self.tri[chosen], self.cls[chosen], self.mat[chosen], self.rgb[chosen], self.par[chosen], self.inst[chosen])

    def numbered(self, instance: int) -> Mesh:
        """The mesh with this instance number on every triangle."""
        return Mesh(self.tri, self.cls, self.mat, self.rgb, self.par, np.full(len(self), instance, np.uint16))


def surface(
    tri: Triangles, cls: str, rgb: ArrayLike, mat: Material = Material.PLAIN, par: ArrayLike = (0.0, 0.0, 0.0, 0.0)
) -> Mesh:
    """Triangles that share class and material; rgb is (3,) or (N, 3), par (4,) or (N, 4)."""
    n = len(tri)
    return Mesh(
        np.ascontiguousarray(tri, np.float32),
        np.full(n, ID[cls], np.uint8),
        np.full(n, mat, np.uint8),
        np.ascontiguousarray(np.broadcast_to(np.asarray(rgb, np.float32), (n, 3))),
        np.ascontiguousarray(np.broadcast_to(np.asarray(par, np.float32), (n, 4))),
        np.zeros(n, np.uint16),
    )


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of all (an empty one of none)."""
    if not meshes:
        return surface(np.zeros((0, 3, 3), np.float32), "road", (0, 0, 0))
    return Mesh(
        np.concatenate([m.tri for m in meshes]),
        np.concatenate([m.cls for m in meshes]),
        np.concatenate([m.mat for m in meshes]),
        np.concatenate([m.rgb for m in meshes]),
        np.concatenate([m.par for m in meshes]),
        np.concatenate([m.inst for m in meshes]),
    )


def pose(x: float, y: float, z: float, yaw: float) -> NDArray[np.float64]:
    """(4, 4) motion: turn by yaw about z, then shift."""
    T = np.eye(4)
    c, s = np.cos(yaw), np.sin(yaw)
    T[:2, :2] = ((c, -s), (s, c))
    T[:3, 3] = (x, y, z)
    return T


def quads(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike) -> Triangles:
    """Two triangles per quad a b c d; corners are (3,) or (N, 3)."""
    a, b, c, d = (np.atleast_2d(np.asarray(p, np.float32)) for p in (a, b, c, d))
    tri = np.empty((max(len(a), len(b), len(c), len(d)), 2, 3, 3), np.float32)
    for i, corners in enumerate(((a, b, c), (a, c, d))):
        for k, corner in enumerate(corners):
            tri[:, i, k] = corner
    out: Triangles = tri.reshape(-1, 3, 3)
    return out


def hexahedron(corners: ArrayLike) -> Triangles:
    """12 triangles of a box-like solid: corners (8, 3), the lower four counter-clockwise, then the upper four."""
    p = np.asarray(corners, np.float32)
    faces = ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
    f = np.array(faces)
    return quads(p[f[:, 0]], p[f[:, 1]], p[f[:, 2]], p[f[:, 3]])


def box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Triangles:
    """12 triangles of an axis-aligned box."""
    return taper((x0, x1, y0, y1, z0), (x0, x1, y0, y1, z1))


def taper(low: tuple[float, float, float, float, float], high: tuple[float, float, float, float, float]) -> Triangles:
    """12 triangles between two rectangles (x0, x1, y0, y1, z)."""
    corners = [(r[i], r[j], r[4]) for r in (low, high) for i, j in ((0, 2), (1, 2), (1, 3), (0, 3))]
    return hexahedron(corners)


def extrude(profile: ArrayLike, y0: float, y1: float, y0_top: float | None = None) -> Triangles:
    """A solid from an (K, 2) x-z outline between y0 and y1 (outline star-shaped about its mean).

    `y0_top`: half-width factor of the outline's upper edge, for bodies that narrow upwards.
    """
    p = np.asarray(profile, np.float32)
    top = 1.0 if y0_top is None else y0_top
    h = (p[:, 1] - p[:, 1].min()) / max(float(np.ptp(p[:, 1])), 1e-6)
    factor = 1 - (1 - top) * h
    left = np.stack([p[:, 0], y0 * factor, p[:, 1]], 1)
    right = np.stack([p[:, 0], y1 * factor, p[:, 1]], 1)
    side = quads(left, np.roll(left, -1, 0), np.roll(right, -1, 0), right)
    caps = []
    for ring in (left, right):
        middle = np.broadcast_to(ring.mean(0), ring.shape)
        caps.append(np.stack([middle, ring, np.roll(ring, -1, 0)], 1))
    return np.concatenate([side, *caps]).astype(np.float32)


def tube(p0: ArrayLike, p1: ArrayLike, r0: float, r1: float, sides: int = 6, caps: bool = True) -> Triangles:
    """A (tapered) cylinder from p0 to p1."""
    a, b = np.asarray(p0, np.float64), np.asarray(p1, np.float64)
    axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
    helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    u = _cross(axis, helper)
    u /= np.linalg.norm(u)
    v = _cross(axis, u)
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    low, high = a + r0 * ring, b + r1 * ring
    following = np.arange(1, sides + 1) % sides
    side = quads(low, low[following], high[following], high)
    if not caps:
        return side
    ends = np.empty((2, sides, 3, 3), np.float32)
    for end, centre, rim in zip(ends, (a, b), (low, high)):
        end[:, 0], end[:, 1], end[:, 2] = centre, rim, rim[following]
    return np.concatenate([side, ends.reshape(-1, 3, 3)])


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cross product of two vectors (3,), without the checks and axes of `np.cross`, which cost more than the sums."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def wheel(x: float, y: float, radius: float, width: float, sides: int = 10) -> Triangles:
    """A wheel that stands on z = 0 at (x, y), axle along y."""
    return tube((x, y - width / 2, radius), (x, y + width / 2, radius), radius, radius, sides)


def hoop(x: float, z: float, radius: float, thick: float, sides: int = 12) -> Triangles:
    """A thin ring (bicycle tyre) in the x-z plane."""
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    c, s = np.cos(angle), np.sin(angle)
    parts = []
    for k in range(sides):
        a = (x + radius * c[k], 0, z + radius * s[k])
        b = (x + radius * c[k + 1], 0, z + radius * s[k + 1])
        parts.append(tube(a, b, thick, thick, 4, caps=False))
    return np.concatenate(parts)


_OCTA = np.array([(1, 0, 0), (0, 1, 0), (-1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], np.float64)
_FACES = np.array([(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4), (1, 0, 5), (2, 1, 5), (3, 2, 5), (0, 3, 5)])


def ball(centre: ArrayLike, radii: ArrayLike, fine: int = 1) -> Triangles:
    """An ellipsoid of 8 * 4^fine triangles."""
    tri = _OCTA[_FACES]
    for _ in range(fine):
        a, b, c = tri[:, 0], tri[:, 1], tri[:, 2]
        ab, bc, ca = a + b, b + c, c + a
        tri = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        tri = tri / np.linalg.norm(tri, axis=2, keepdims=True)
    out: Triangles = (tri * np.asarray(radii) + np.asarray(centre)).astype(np.float32)
    return out


def tone(rng: np.random.Generator, low: float, high: float) -> NDArray[np.float64]:
    """A random colour (3,) of brightness low..high: mostly greyish, as most things are, now and then strong."""
    spread = 0.55 if rng.random() < 0.2 else 0.12
    out: NDArray[np.float64] = np.clip(rng.uniform(low, high) * (1 + rng.normal(0, spread, 3)), 0.01, 0.9)
    return out


def shifted(tri: Triangles, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Triangles:
    """The triangles moved by (x, y, z)."""
    out: Triangles = tri + np.array([x, y, z], np.float32)
    return out


def leaves(points: NDArray[np.floating], size: float, rng: np.random.Generator) -> Triangles:
    """A randomly turned triangle of about `size` metres at every point (N, 3)."""
    n = len(points)
    corner = rng.normal(size=(n, 3, 3))
    corner -= corner.mean(1, keepdims=True)
    corner *= (size * rng.uniform(0.6, 1.4, (n, 1, 1))) / np.linalg.norm(corner, axis=2, keepdims=True).mean(1, keepdims=True)
    out: Triangles = (corner * 0.6 + np.asarray(points)[:, None]).astype(np.float32)
    return out


def split_long(mesh: Mesh, longest: float) -> Mesh:
    """The same surface with no edge longer than `longest` metres: triangles are halved at their longest edge."""
    done = []
    while len(mesh):
        sides = np.linalg.norm(np.roll(mesh.tri, -1, 1) - mesh.tri, axis=2)  # from corner k to corner k + 1
        long = sides.max(1) > longest
        done.append(mesh.at(~long))
        mesh, first = mesh.at(long), sides[long].argmax(1)
        row = np.arange(len(mesh))
        a, b, c = (mesh.tri[row, (first + k) % 3] for k in range(3))
        middle = (a + b) / 2
        halves = (np.stack([a, middle, c], 1), np.stack([middle, b, c], 1))
        mesh = join([Mesh(tri.astype(np.float32), mesh.cls, mesh.mat, mesh.rgb, mesh.par, mesh.inst) for tri in halves])
    return join(done)
