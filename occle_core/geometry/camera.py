# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras that are fixed to a LiDAR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.geometry.affine import transform_points


@dataclass(frozen=True, eq=False)
class Camera:
    """A rectified pinhole camera: x right, y down, z forward; integer pixel coordinates are pixel centres.

    Args:
        K: (3, 3) intrinsics, pixels.
        T_camera_lidar: (4, 4) float64, maps LiDAR points into the camera frame, metres.
        width: of the image, pixels.
        height: of the image, pixels.

    Raises:
        ValueError: a matrix has another shape or is not finite, or the size is not positive.
    """

    K: NDArray[np.float64]
    T_camera_lidar: NDArray[np.float64]
    width: int
    height: int

    def __post_init__(self) -> None:
        for name, shape in (("K", (3, 3)), ("T_camera_lidar", (4, 4))):
            matrix = np.asarray(getattr(self, name), np.float64)
            if matrix.shape != shape or not np.isfinite(matrix).all():
                raise ValueError(f"a camera's {name} must be a finite {shape} matrix, not shape {matrix.shape}: {matrix.tolist()}")
            object.__setattr__(self, name, matrix)
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a camera's image size must be positive, not {self.width}x{self.height}")

    @classmethod
    def from_projection(cls, P: ArrayLike, T_rectified_lidar: ArrayLike, width: int, height: int) -> Camera:
        """From a full 3x4 projection such as KITTI's P2 or a CameraInfo's P, and the LiDAR's pose in its rectified frame.

        P = K [I | t]: the offset t moves into `T_camera_lidar`, so that nothing of P is lost.
        """
        P = np.asarray(P, np.float64).reshape(3, 4)
        K = P[:, :3]
        offset = np.eye(4)
        offset[:3, 3] = np.linalg.solve(K, P[:, 3])
        return cls(K, offset @ np.asarray(T_rectified_lidar, np.float64), width, height)

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Project LiDAR points into the image.

        Args:
            points: (N, 3 or more) in the LiDAR frame, metres; further columns are ignored.

        Returns:
            uv (N, 2) pixels, depth (N,) metres along the optical axis, visible (N,) bool: depth > 0 and inside
            the image, that is -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5. uv is 0 where depth <= 0.
        """
        pixels = transform_points(self.K @ self.T_camera_lidar[:3], np.asarray(points, np.float64))
        depth = pixels[:, 2]
        ahead = depth > 0
        uv = np.zeros((len(points), 2))
        np.divide(pixels[:, :2], depth[:, None], out=uv, where=ahead[:, None])
        u, v = uv[:, 0], uv[:, 1]
        visible = ahead & (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        return uv, depth, visible

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for its image resized to width x height (pixel centres: u' = (u + 0.5) s - 0.5)."""
        sx, sy = width / self.width, height / self.height
        scale = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        return Camera(scale @ self.K, self.T_camera_lidar, width, height)

    def rays(self) -> NDArray[np.float64]:
        """(height, width, 3) directions through the pixel centres, LiDAR frame, with depth 1 along the optical axis."""
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        in_camera = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(self.K).T
        return in_camera @ self.T_camera_lidar[:3, :3]

    @property
    def position(self) -> NDArray[np.float64]:
        """(3,) optical centre in the LiDAR frame, metres."""
        return -self.T_camera_lidar[:3, :3].T @ self.T_camera_lidar[:3, 3]
