# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Camera images: one ray per pixel, Lambert shading with sun shadows, sky, haze, and the camera's response."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_train.streets.sensors.caster import FAR, SceneSnapshot
from occle_train.streets.sensors.lens_rays import pixel_rays
from occle_train.streets.sensors.light import Lighting
from occle_train.streets.sensors.rigs import RigCamera
from occle_train.streets.shapes.mesh import Material
from occle_train.streets.shapes.texture import Noise, surface_colour, windows


@dataclass(frozen=True, eq=False)
class RenderedView:
    """One camera's image.

    Args:
        rgb: (H, W, 3) uint8.
        cls: (H, W) uint8 internal class, 255 in the sky.
        depth: (H, W) float32 metres along the optical axis, caster.FAR in the sky.
    """

    rgb: NDArray[np.uint8]
    cls: NDArray[np.uint8]
    depth: NDArray[np.float32]


def render(
    snapshot: SceneSnapshot,
    camera: RigCamera,
    T_world_base: NDArray[np.float64],
    light: Lighting,
    noise: Noise,
    rng: np.random.Generator,
) -> RenderedView:
    """Render a camera's image with its classes and depths.

    Args:
        snapshot: the scene now.
        camera: where the camera sits on the vehicle.
        T_world_base: (4, 4) pose of the vehicle.
        light: illumination and response.
        noise: the surfaces' texture.
        rng: sensor noise.
    """
    T = T_world_base @ camera.T_base_camera
    rays = pixel_rays(camera)
    directions = (rays @ T[:3, :3].T).astype(np.float32)
    tri, distance = snapshot.cast(T[:3, 3], directions)
    hit = tri >= 0
    colour = sky(directions, light, noise)
    colour[hit] = _shade(snapshot, T[:3, 3].astype(np.float32), directions[hit], tri[hit], distance[hit], light, noise)
    shape = (camera.height, camera.width)
    rgb = _expose(colour.reshape(*shape, 3), hit.reshape(shape), light, rng)
    cls = np.full(len(tri), 255, np.uint8)
    cls[hit] = snapshot.cls[tri[hit]]
    depth = np.where(hit, distance * rays[:, 2], FAR).astype(np.float32)
    return RenderedView(rgb, cls.reshape(shape), depth.reshape(shape))


def sky(directions: NDArray[np.float32], light: Lighting, noise: Noise) -> NDArray[np.float32]:
    """Sky colour (N, 3) in directions (N, 3), with clouds."""
    up = np.clip(directions[:, 2], 0, 1)
    share = np.sqrt(up)[:, None]
    colour = light.horizon * (1 - share) + light.zenith * share
    k = 900.0 / (up + 0.12)
    cloud = noise(directions[:, 0] * k + 4000, directions[:, 1] * k + 4000, 16000.0)
    cover = np.clip((cloud - (0.55 - 1.1 * light.cloud)) * 2.2, 0, 1)[:, None] * np.float32(min(light.cloud * 3, 1.0))
    out: NDArray[np.float32] = (colour * (1 - cover) + light.horizon.max() * np.float32(1.05) * cover).astype(np.float32)
    return out


def _shade(
    snapshot: SceneSnapshot,
    origin: NDArray[np.float32],
    directions: NDArray[np.float32],
    tri: NDArray[np.int32],
    distance: NDArray[np.float32],
    light: Lighting,
    noise: Noise,
) -> NDArray[np.float32]:
    normals = snapshot.normals[tri]
    facing = np.einsum("ij,ij->i", normals, directions)
    normals = np.where(facing[:, None] > 0, -normals, normals)
    points = origin + directions * distance[:, None]
    mat = snapshot.mat[tri]
    albedo = surface_colour(points, normals, mat, snapshot.rgb[tri], snapshot.par[tri], noise)
    slope = normals @ light.sun
    foliage = mat == Material.FOLIAGE
    # Leaves scatter light: they are lit from both sides and more evenly.
    slope = np.where(foliage, 0.35 + 0.45 * np.abs(slope), slope)
    sunny = slope > 0
    if light.sun_rgb.max() > 0.05:
        at = np.flatnonzero(sunny)
        sunny[at] = snapshot.lit(points[at] + normals[at] * 0.03 + light.sun * 0.02, light.sun)
    direct = np.where(sunny, slope, 0)[:, None] * light.sun_rgb
    ambient = (0.62 + 0.38 * normals[:, 2])[:, None] * light.sky_rgb
    colour = albedo * (direct + ambient)
    gloss = np.isin(mat, (Material.GLASS, Material.PAINT, Material.SHINY))
    facade = mat == Material.FACADE
    if facade.any():
        glass, _ = windows(points[facade], normals[facade], snapshot.par[tri[facade]])
        gloss[np.flatnonzero(facade)[glass]] = True
    d, n = directions[gloss], normals[gloss]
    mirrored = d - 2 * np.einsum("ij,ij->i", d, n)[:, None] * n
    fresnel = 0.04 + 0.5 * (1 - np.clip(-np.einsum("ij,ij->i", d, n), 0, 1)) ** 4
    strength = np.where(np.isin(mat[gloss], (Material.GLASS, Material.FACADE)), 2.0, 1.0) * fresnel
    env = sky(mirrored, light, noise) * np.where(mirrored[:, 2:] > 0.05, 1.0, 0.22)
    glint = np.clip(mirrored @ light.sun, 0, 1) ** 60 * sunny[gloss] * 0.8
    colour[gloss] += env * strength[:, None].astype(np.float32) + glint[:, None] * light.sun_rgb
    air = (1 - np.exp(-distance * np.float32(light.haze / 100)))[:, None]
    out: NDArray[np.float32] = (colour * (1 - air) + light.horizon * air).astype(np.float32)
    return out


def _expose(colour: NDArray[np.float32], ground: NDArray[np.bool_], light: Lighting, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The camera: exposure control on the median below the sky, tone curve, colour, blur and noise."""
    grey = colour.mean(-1)
    middle = float(np.median(grey[ground])) if ground.any() else 0.2
    gain = (light.median / 255) ** light.gamma / max(middle, 0.01)
    linear = np.clip(colour * (gain * light.tint), 0, None)
    # A short shoulder before the sensor clips.
    linear = np.where(linear < 0.8, linear, 0.8 + 0.2 * (1 - np.exp(-(linear - 0.8) / 0.2)))
    coded = linear ** np.float32(1 / light.gamma)
    luminance = coded.mean(-1, keepdims=True)
    coded = luminance + (coded - luminance) * np.float32(light.saturation)
    image = np.float32(light.black) + np.float32(255 - light.black) * coded.astype(np.float32)
    image = cv2.GaussianBlur(image, (3, 3), 0.45)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(light.noise)
    out: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
    return out
