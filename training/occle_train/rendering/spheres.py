# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Spheres into images, differentiably: the projection step of MinkOcc's rendering head (Sze et al., Sec. IV-C).

The blending is Pulsar's (Lassner and Zollhöfer, Pulsar: Efficient Sphere-based Neural Rendering, Sec. 3.2). Per pixel, over the
background b and the spheres k that its ray meets,

    F = (e^(eps / gamma) b + sum_k w_k f_k) / (e^(eps / gamma) + sum_k w_k),     w_k = o_k d_k e^(o_k z_k / gamma)

with d = 1 - (distance of the ray from the centre) / radius and z = 1 - (entry - near) / (far - near), entry being where the ray
meets the sphere, metres from the camera. The paper's Eq. 2 prints min(1, distance / radius) and a product with gamma instead;
its text describes what stands here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from occle_core.geometry.camera import Camera
from occle_train.rendering.bounds import pixel_bounds

EPSILON = 1e-6
"""Depth of the background (Pulsar's eps)."""

CHUNK = 1 << 17
"""Pairs of a sphere and a pixel that are looked at together; bounds the memory of both passes."""


def render_spheres(
    centers: Tensor,
    features: Tensor,
    radii: Tensor,
    opacity: Tensor,
    camera: Camera | Sequence[Camera],
    size: tuple[int, int],
    gamma: float,
    background: Tensor,
    depth_range: tuple[float, float],
) -> Tensor:
    """Feature images of spheres, with exact gradients for everything that is a tensor.

    Only spheres and pixels that meet are looked at: all others have d = 0, so nothing is approximated. A sphere contributes to a
    ray only where the ray both enters and leaves it inside `depth_range`; spheres around the camera or behind it never do. One
    whose radius is under a pixel counts with d = 1 in the pixel that its centre falls into, so that it is not lost between rays.

    Args:
        centers: (N, 3) float32 or float64, metres, in the frame that the cameras' `T_camera_lidar` maps from.
        features: (N, C).
        radii: (N,) metres, positive.
        opacity: (N,) in 0..1.
        camera: calibrated for any image size; several give one image each.
        size: (width, height) of the images, pixels.
        gamma: depth sharpness, 1e-5 (the nearest sphere only) to 1 (soft).
        background: (C,) what is seen where there is no sphere.
        depth_range: (near, far), metres along the ray.

    Returns:
        (C, height, width) for a Camera, (V, C, height, width) for a sequence of V.

    Raises:
        ValueError: shapes, types, gamma or the depth range do not fit.
    """
    _check(centers, features, radii, opacity, size, gamma, background, depth_range)
    cameras = [camera] if isinstance(camera, Camera) else list(camera)
    if not cameras:
        raise ValueError("there is no camera to render for")
    images = []
    for one in cameras:
        view = _View.of(one.resized(*size), centers, gamma, depth_range)
        # A matrix product could be rounded to TF32, whose 10 bits are too few for depths.
        moved = (centers[:, None] * view.rotation).sum(2) + view.shift
        flat = _Blend.apply(moved, features, radii, opacity, background, view)  # type: ignore[no-untyped-call]
        images.append(flat.T.reshape(-1, size[1], size[0]))
    return images[0] if isinstance(camera, Camera) else torch.stack(images)


@dataclass(frozen=True)
class _View:
    """A camera at the rendered size, as tensors: unit rays (H * W, 3) in its frame, its pose, K, and the settings of the blend."""

    rays: Tensor
    rotation: Tensor
    shift: Tensor
    K: Any
    size: tuple[int, int]
    gamma: float
    near: float
    far: float

    @classmethod
    def of(cls, camera: Camera, like: Tensor, gamma: float, depth_range: tuple[float, float]) -> _View:
        u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(camera.K).T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        rotation, shift = camera.T_camera_lidar[:3, :3], camera.T_camera_lidar[:3, 3]
        tensors = [torch.as_tensor(array, dtype=like.dtype, device=like.device) for array in (rays, rotation, shift)]
        return cls(tensors[0], tensors[1], tensors[2], camera.K, (camera.width, camera.height), gamma, *depth_range)

    def pairs(self, centers: Tensor, radii: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """In chunks, the M pairs that meet: sphere, pixel, whether that is a small sphere's own, closeness d, entry; all (M,)."""
        first_u, first_v, columns, rows, own = pixel_bounds(centers, radii, self.K, self.size, self.far)
        ends = torch.cumsum(columns * rows, 0)
        total = int(ends[-1]) if len(ends) else 0
        for start in range(0, total, CHUNK):
            number = torch.arange(start, min(start + CHUNK, total), device=centers.device)
            sphere = torch.searchsorted(ends, number, right=True)
            within = number - (ends - columns * rows)[sphere]
            width = columns[sphere]
            row = torch.div(within, width, rounding_mode="floor")
            pixel = (first_v[sphere] + row) * self.size[0] + first_u[sphere] + within - row * width
            small = pixel == own[sphere]
            closeness, entry, leave = _meet(centers[sphere], radii[sphere], self.rays[pixel], small)
            hit = (closeness > 0) & (entry >= self.near) & (leave <= self.far)
            yield sphere[hit], pixel[hit], small[hit], closeness[hit], entry[hit]

    def strength(self, opacity: Tensor, closeness: Tensor, entry: Tensor) -> tuple[Tensor, Tensor]:
        """w = amount e^exponent of every pair: (amount, exponent)."""
        z = 1 - (entry - self.near) / (self.far - self.near)
        return opacity * closeness, opacity * z / self.gamma


def _meet(centers: Tensor, radii: Tensor, rays: Tensor, small: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intersections of unit rays (M, 3) from the origin with spheres: closeness d, entry and exit, metres; all (M,).

    A pair that is marked in `small` counts as a ray through the centre.
    """
    along = (centers * rays).sum(1)
    distance = torch.linalg.vector_norm(centers - along[:, None] * rays, dim=1)
    closeness = torch.where(small, torch.ones_like(along), (1 - distance / radii).clamp(min=0))
    along = torch.where(small, torch.linalg.vector_norm(centers, dim=1), along)
    # Half the chord, sqrt(radius^2 - distance^2), without the cancellation.
    half = radii * torch.sqrt(closeness * (2 - closeness))
    return closeness, along - half, along + half


class _Blend(torch.autograd.Function):
    """Camera-frame spheres to pixels (H * W, C). Both passes go through the pairs chunk by chunk; none is stored in between."""

    @staticmethod
    def forward(
        ctx: Any, centers: Tensor, features: Tensor, radii: Tensor, opacity: Tensor, background: Tensor, view: _View
    ) -> Tensor:
        pixels = len(view.rays)
        # Everything is scaled by e^-peak, the largest exponent that the pixel has met so far: small gammas overflow otherwise.
        peak = centers.new_full((pixels,), EPSILON / view.gamma)
        weight = centers.new_ones(pixels)
        colour = background.expand(pixels, -1).clone()
        for sphere, pixel, _, closeness, entry in view.pairs(centers, radii):
            amount, exponent = view.strength(opacity[sphere], closeness, entry)
            higher = peak.scatter_reduce(0, pixel, exponent, "amax")
            fade = torch.exp(peak - higher)
            share = amount * torch.exp(exponent - higher[pixel])
            weight.mul_(fade).index_add_(0, pixel, share)
            colour.mul_(fade[:, None]).index_add_(0, pixel, share[:, None] * features[sphere])
            peak = higher
        image = colour / weight[:, None]
        ctx.save_for_backward(centers, features, radii, opacity, image, peak, weight)
        ctx.view = view
        return image

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        centers, features, radii, opacity, image, peak, weight = ctx.saved_tensors
        view: _View = ctx.view
        # Of the quotient: dF = dw_k (f_k - F) / weight + df_k w_k / weight. The peak cancels, so it counts as a constant.
        scaled = upstream / weight[:, None]
        through_image = (scaled * image).sum(1)
        to_background = (scaled * torch.exp(EPSILON / view.gamma - peak)[:, None]).sum(0)
        to_features, spheres = torch.zeros_like(features), (centers, radii, opacity)
        to_spheres = tuple(torch.zeros_like(value) for value in spheres)
        for sphere, pixel, small, _, _ in view.pairs(centers, radii):
            with torch.enable_grad():
                own = tuple(value[sphere].detach().requires_grad_() for value in spheres)
                closeness, entry, _ = _meet(own[0], own[1], view.rays[pixel], small)
                amount, exponent = view.strength(own[2], closeness, entry)
            level = torch.exp(exponent.detach() - peak[pixel])
            share = amount.detach() * level
            pulled = scaled[pixel]
            to_features.index_add_(0, sphere, share[:, None] * pulled)
            to_weight = (pulled * features[sphere]).sum(1) - through_image[pixel]
            gradients = torch.autograd.grad((amount, exponent), own, (to_weight * level, to_weight * share))
            for total, gradient in zip(to_spheres, gradients):
                total.index_add_(0, sphere, gradient)
        return to_spheres[0], to_features, to_spheres[1], to_spheres[2], to_background, None


def _check(
    centers: Tensor,
    features: Tensor,
    radii: Tensor,
    opacity: Tensor,
    size: tuple[int, int],
    gamma: float,
    background: Tensor,
    depth_range: tuple[float, float],
) -> None:
    count = len(centers)
    if centers.shape != (count, 3) or features.shape[:1] != (count,) or radii.shape != (count,) or opacity.shape != (count,):
        shapes = ", ".join(str(tuple(value.shape)) for value in (centers, features, radii, opacity))
        raise ValueError(f"spheres need centers (N, 3), features (N, C), radii (N,) and opacity (N,); got {shapes}")
    if features.ndim != 2 or background.shape != features.shape[1:]:
        raise ValueError(f"features (N, C) and background (C,) do not fit: {tuple(features.shape)}, {tuple(background.shape)}")
    kinds = {value.dtype for value in (centers, features, radii, opacity, background)}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise ValueError(f"spheres and background must all be float32, or all float64, not {', '.join(sorted(map(str, kinds)))}")
    if min(size) < 1:
        raise ValueError(f"the image size must be a positive (width, height), not {size}")
    if not 1e-5 <= gamma <= 1:
        raise ValueError(f"gamma must lie in 1e-5..1, not {gamma}")
    if not 0 <= depth_range[0] < depth_range[1]:
        raise ValueError(f"the depth range must be 0 <= near < far, not {depth_range}")
