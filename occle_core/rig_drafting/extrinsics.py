# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Score of a camera's heading: depth edges of the scans against vertical edges of the image, over small rotations.

After Levinson and Thrun, "Automatic Online Calibration of Cameras and Lasers", RSS 2013. Beams run along rows, so that they show
where an object ends to its left and right, not above: heading is scored, pitch and roll are for the eye (`draw_scan`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.rig.pose import rotation

CELL = 6
"""Pixels of a cell of the depth raster, at 640 pixels of image width."""
REACH, STEP = 5.0, 0.125
"""Degrees of the search."""
TOLERATED = 0.8
"""Degrees that a good calibration may seem to be off."""
FARTHEST = 40.0
"""Metres."""
FEWEST_EDGES, WEAK = 300, 1.25
"""Edges, and score of the best heading, below which the verdict is "unknown"."""
CLEAR = 0.04
"""Share by which the score has to rise for another heading to be believed."""


@dataclass(frozen=True, eq=False)
class ExtrinsicScore:
    """Result for one camera.

    Args:
        camera: name.
        edges: depth edges that were found in all frames.
        score: mean edge strength of the image at them, 1 is that of a random pixel.
        best: the same under the best heading.
        heading: degrees about the optical frame's y axis that give it, positive to the right.
        verdict: "good", "off", or "unknown" where there are too few edges.
    """

    camera: str
    edges: int
    score: float
    best: float
    heading: float
    verdict: str

    @property
    def text(self) -> str:
        """For people."""
        if self.verdict == "unknown":
            return (
                f"{self.camera}: {self.edges} depth edges, too few or too weak to tell; give a recording with poles, cars and walls"
            )
        head = f"{self.camera}: image edges {self.score:.2f} times as strong at {self.edges} depth edges as elsewhere"
        if self.verdict == "good":
            return f"{head}; heading good"
        side = "right" if self.heading > 0 else "left"
        return (
            f"{head}, {self.best:.2f} times with the points {abs(self.heading):.1f} degrees further {side}: correct "
            f"cameras.{self.camera}.pose, or time_offset_ms if the robot turned"
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
            parts.append((depth_edges(frame.points, camera), edge_strength(image), camera.K))
    count = sum(len(points) for points, _, _ in parts)
    unknown = ExtrinsicScore(name, count, 0.0, 0.0, 0.0, "unknown")
    if count < FEWEST_EDGES:
        return unknown
    headings = np.arange(-round(REACH / STEP), round(REACH / STEP) + 1) * STEP
    scores = np.array(
        [
            np.concatenate(
                [_sample(strength, K, points @ rotation(0, np.radians(yaw), 0).T) for points, strength, K in parts]
            ).mean()
            for yaw in headings
        ]
    )
    best, here = int(scores.argmax()), float(scores[len(headings) // 2])
    if scores[best] < WEAK:
        return unknown
    is_off = abs(headings[best]) > TOLERATED and scores[best] > here * (1 + CLEAR)
    return ExtrinsicScore(name, count, here, float(scores[best]), float(headings[best]), "off" if is_off else "good")


def depth_edges(points: NDArray[np.float32], camera: Camera) -> NDArray[np.float64]:
    """(M, 3) points in the camera frame at the near side of depth edges to their left or right in the image."""
    uv, depth, visible = camera.project(points)
    cell = max(2.0, CELL * camera.width / 640)
    uv, depth = uv[visible], depth[visible]
    columns, rows = np.floor(uv[:, 0] / cell).astype(int) + 1, np.floor(uv[:, 1] / cell).astype(int)
    nearest = np.full((int(camera.height / cell) + 2, int(camera.width / cell) + 4), np.inf)
    np.minimum.at(nearest, (rows, columns), depth)
    step = np.maximum(1.0, 0.1 * depth)
    is_near = (depth < nearest[rows, columns] + 0.5 * step) & (depth < FARTHEST)
    edge = np.zeros(len(depth), np.bool_)
    for side in (-1, 1):
        beside = nearest[rows, columns + side]
        edge |= is_near & np.isfinite(beside) & (beside > depth + step)
    rays = np.column_stack([uv[edge], np.ones(int(edge.sum()))]) @ np.linalg.inv(camera.K).T
    return np.asarray(rays * depth[edge, None])


def edge_strength(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) smoothed gradient magnitude of an RGB image across columns, 1 in the mean."""
    wide = image.shape[1] / 640
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), max(0.7, 1.2 * wide))
    steep = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3))
    steep = np.minimum(steep, float(np.percentile(steep, 98)) + 1e-6)
    slope = cv2.GaussianBlur(steep, (0, 0), max(1.0, 2.0 * wide))
    return np.asarray(slope / max(float(slope.mean()), 1e-6), np.float32)


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
