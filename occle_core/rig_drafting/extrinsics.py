"""Score of a camera's extrinsics: edges of the LiDAR's depth against edges of the image's intensity, over small rotations.

After Levinson and Thrun, "Automatic Online Calibration of Cameras and Lasers", RSS 2013.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.rig.pose import rotation

CELL = 6
"""Pixels of a cell of the depth raster, at 640 pixels of image width."""
COARSE, REACH, FINE = 0.5, 3.5, 0.125
"""Degrees: step and reach of the search, and its last step."""
TOLERATED = 0.8
"""Degrees that a good calibration may seem to be off: sparse beams do not tell less."""
HIGHER = 8
"""Cells above a point in which the next beam is looked for."""
FARTHEST = 40.0
"""Metres."""
FEWEST_EDGES, WEAK = 300, 1.25
"""Edges, and score of the best rotation, below which nothing is told."""
CLEAR = 0.06
"""Share by which the score has to rise for a rotation to be believed."""


@dataclass(frozen=True, eq=False)
class ExtrinsicScore:
    """Result for one camera.

    Args:
        camera: name.
        edges: depth edges that were found in all frames.
        score: mean edge strength of the image at them, 1 is that of a random pixel.
        best: the same under the best rotation.
        rotation: (roll, pitch, yaw) in degrees about the camera's z, x and y axes that gives it.
        verdict: "good", "off", or "unknown" where there are too few edges.
    """

    camera: str
    edges: int
    score: float
    best: float
    rotation: tuple[float, float, float]
    verdict: str

    @property
    def text(self) -> str:
        """For people."""
        if self.verdict == "unknown":
            return (
                f"{self.camera}: {self.edges} depth edges in its images, too few to tell; give a recording with poles, cars, walls"
            )
        head = f"{self.camera}: edges {self.score:.2f} times as strong as elsewhere ({self.edges} depth edges)"
        if self.verdict == "good":
            return f"{head}; good"
        roll, pitch, yaw = self.rotation
        return (
            f"{head}; {self.best:.2f} when turned by {np.linalg.norm(self.rotation):.1f} degrees (roll {roll:+.1f}, pitch "
            f"{pitch:+.1f}, yaw {yaw:+.1f} of the optical frame): correct cameras.{self.camera}.pose, or its time "
            "offset if the robot turned"
        )


def score_camera(name: str, number: int, frames: Iterable[Frame]) -> ExtrinsicScore:
    """Score one camera.

    Args:
        name: of the camera.
        number: its place in the frames' images.
        frames: some of a recording, in which the view changes.
    """
    parts = []
    for frame in frames:
        image, camera = frame.images[number], frame.cameras[number]
        if image is not None:
            parts += [(*each, camera.K) for each in zip(depth_edges(frame.points, camera), edge_strength(image))]
    count = sum(len(points) for points, _, _ in parts)
    unknown = ExtrinsicScore(name, count, 0.0, 0.0, (0.0, 0.0, 0.0), "unknown")
    if count < FEWEST_EDGES:
        return unknown

    def mean(angles: Sequence[float]) -> float:
        R = rotation(*np.radians([angles[1], angles[2], angles[0]]))  # pitch about x, yaw about y, roll about z
        found = [_sample(strength, K, points @ R.T) for points, strength, K in parts]
        return float(np.mean([np.concatenate(each).mean() for each in (found[::2], found[1::2]) if sum(map(len, each))]))

    best, here = (0.0, 0.0, 0.0), mean((0.0, 0.0, 0.0))
    highest = here
    steps = np.arange(-REACH, REACH + 1e-9, COARSE)
    for pitch in steps:
        for yaw in steps:
            if (value := mean((0.0, pitch, yaw))) > highest:
                best, highest = (0.0, float(pitch), float(yaw)), value
    step = COARSE
    for _ in range(60):
        around = [tuple(float(b + d * step) for b, d in zip(best, offset)) for offset in _NEIGHBOURS]
        values = [mean(angles) if max(map(abs, angles)) <= REACH + COARSE else -1.0 for angles in around]
        if max(values) > highest:
            highest, best = max(values), around[int(np.argmax(values))]  # type: ignore[assignment]
        elif step > FINE:
            step /= 2
        else:
            break
    if highest < WEAK:
        return unknown
    is_off = float(np.linalg.norm(best)) > TOLERATED and highest > here * (1 + CLEAR)
    return ExtrinsicScore(name, count, here, highest, best, "off" if is_off else "good")


def depth_edges(points: NDArray[np.float32], camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points in the camera frame at the near side of depth edges: (M, 3) left and right edges, (N, 3) upper edges.

    An upper edge lies between the beam that still hits and the next one above, and is put half-way.
    """
    uv, depth, visible = camera.project(points)
    cell = max(2.0, CELL * camera.width / 640)
    uv, depth = uv[visible], depth[visible]
    columns, rows = np.floor(uv[:, 0] / cell).astype(int) + 1, np.floor(uv[:, 1] / cell).astype(int) + HIGHER
    shape = (int(camera.height / cell) + 2 + HIGHER, int(camera.width / cell) + 4)
    nearest = np.full(shape, np.inf)
    np.minimum.at(nearest, (rows, columns), depth)
    step = np.maximum(1.0, 0.1 * depth)
    is_near = (depth < nearest[rows, columns] + 0.5 * step) & (depth < FARTHEST)
    side = np.zeros(len(depth), np.bool_)
    for shift in (-1, 1):
        beside = nearest[rows, columns + shift]
        side |= is_near & np.isfinite(beside) & (beside > depth + step)
    up, open_above = np.zeros(len(depth)), is_near.copy()
    for higher in range(1, HIGHER + 1):
        above = nearest[rows - higher, columns]
        there = open_above & np.isfinite(above)
        up[there & (above > depth + step)] = 0.5 * higher * cell
        open_above &= ~there
    upper = up > 0
    return _unproject(uv[side], depth[side], camera), _unproject(uv[upper] - np.stack([0 * up, up], 1)[upper], depth[upper], camera)


def edge_strength(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) smoothed gradient magnitudes of an RGB image across columns and across rows, each 1 in the mean."""
    wide = image.shape[1] / 640
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), max(0.7, 1.2 * wide))
    found = []
    for x, y in ((1, 0), (0, 1)):
        steep = np.abs(cv2.Sobel(grey, cv2.CV_32F, x, y, ksize=3))
        steep = np.minimum(steep, float(np.percentile(steep, 98)) + 1e-6)
        slope = cv2.GaussianBlur(steep, (0, 0), max(1.0, 2.0 * wide))
        found.append(np.asarray(slope / max(float(slope.mean()), 1e-6), np.float32))
    return found[0], found[1]


def _unproject(uv: NDArray[np.float64], depth: NDArray[np.float64], camera: Camera) -> NDArray[np.float64]:
    rays = np.column_stack([uv, np.ones(len(uv))]) @ np.linalg.inv(camera.K).T
    return np.asarray(rays * depth[:, None])


def draw_scan(image: NDArray[np.uint8], points: NDArray[np.float32], camera: Camera) -> NDArray[np.uint8]:
    """The image with the points on it, near ones red, far ones blue."""
    uv, depth, visible = camera.project(points)
    order = np.argsort(-depth[visible])
    at = np.rint(uv[visible][order]).astype(int)
    shade = np.clip(255 * (1 - np.log(np.clip(depth[visible][order], 1, 60)) / np.log(60)), 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(shade[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    drawn = image.copy()
    radius = max(1, image.shape[1] // 640)
    for (u, v), colour in zip(at.tolist(), colours.tolist()):
        cv2.circle(drawn, (u, v), radius, colour, -1)
    return drawn


def _sample(strength: NDArray[np.float32], K: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Strength at the points' pixels; outside of the image that of its mean."""
    z = np.maximum(points[:, 2], 0.1)
    u = np.rint(points[:, 0] / z * K[0, 0] + K[0, 2]).astype(int)
    v = np.rint(points[:, 1] / z * K[1, 1] + K[1, 2]).astype(int)
    inside = (u >= 0) & (v >= 0) & (u < strength.shape[1]) & (v < strength.shape[0]) & (points[:, 2] > 0.1)
    found = np.ones(len(points), np.float32)
    found[inside] = strength[v[inside], u[inside]]
    return found


_NEIGHBOURS = [offset for axis in range(3) for offset in (tuple(np.eye(3)[axis]), tuple(-np.eye(3)[axis]))]
