# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sun, sky and camera response of a drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Lighting:
    """Illumination and camera response.

    Args:
        sun: (3,) float32 unit vector towards the sun.
        sun_rgb, sky_rgb: (3,) light of the sun and of the sky dome.
        horizon, zenith: (3,) sky colours; cloud: share of the sky that is covered, 0..1.
        haze: share of the horizon colour that 100 m of air add, 0..1.
        median: grey level that the exposure control gives to the median pixel below the sky.
        gamma: exponent of the tone curve; black: grey level of black; saturation: 1 leaves colours as they are.
        noise: standard deviation in grey levels; tint: (3,) white balance.
    """

    sun: NDArray[np.float32]
    sun_rgb: NDArray[np.float32]
    sky_rgb: NDArray[np.float32]
    horizon: NDArray[np.float32]
    zenith: NDArray[np.float32]
    cloud: float
    haze: float
    median: float
    gamma: float
    black: float
    saturation: float
    noise: float
    tint: NDArray[np.float32]


def make_light(rng: np.random.Generator, rig: str) -> Lighting:
    """A random hour and weather of the day, and a camera like the rig's: KITTI's is hard and colourful, nuScenes' soft and pale."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 65))
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    cloud = float(rng.choice([rng.uniform(0, 0.35), rng.uniform(0.35, 0.8), 1.0], p=[0.6, 0.2, 0.2]))
    bright = 1.0 if cloud < 0.9 else rng.uniform(0.0, 0.2)
    warm = np.array([1.0, 0.93 + 0.05 * np.sin(elevation), 0.8 + 0.15 * np.sin(elevation)])
    blue, grey = np.array([0.72, 0.87, 1.05]), np.array([0.95, 0.97, 1.0])
    overcast = min(cloud * 1.1, 1.0)
    soft = rng.uniform(0.11, 0.32) if rig == "kitti" else rng.uniform(0.3, 0.55)
    sky = (blue * (1 - overcast) + grey * overcast) * soft
    glow = rng.uniform(1.5, 4.0) if rig == "kitti" else rng.uniform(1.0, 2.0)
    zenith = np.array([0.1, 0.28, 0.75]) * rng.uniform(0.7, 1.3) * (1 - overcast) + np.array([0.75, 0.78, 0.82]) * overcast
    horizon = np.array([0.6, 0.8, 1.0]) * (1 - overcast) + np.array([0.92, 0.93, 0.95]) * overcast
    kitti = rig == "kitti"
    return Lighting(
        sun=sun.astype(np.float32),
        sun_rgb=(warm * 2.4 * bright).astype(np.float32),
        sky_rgb=sky.astype(np.float32),
        horizon=(horizon * glow * (soft * 1.6 if bright < 1 else 1.0)).astype(np.float32),
        zenith=(zenith * glow * (soft * 1.6 if bright < 1 else 1.0)).astype(np.float32),
        cloud=cloud,
        haze=rng.uniform(0.0, 0.15) / glow,
        median=(rng.uniform(45, 85) if bright == 1.0 else rng.uniform(75, 115)) if kitti else rng.uniform(62, 100),
        gamma=rng.uniform(1.4, 2.1) if kitti else rng.uniform(1.9, 2.5),
        black=rng.uniform(0, 8) if kitti else rng.uniform(8, 28),
        saturation=rng.uniform(1.1, 1.6) if kitti else rng.uniform(0.6, 1.0),
        noise=rng.uniform(1.0, 4.5),
        tint=rng.normal(1.0, 0.035, 3).astype(np.float32),
    )


def lamp_light(rng: np.random.Generator) -> Lighting:
    """Lamps below a hall's ceiling, as one light from almost straight above, and daylight outside its gates."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(60, 85))
    above = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    white = np.array([1.0, 0.97, 0.9]) * rng.uniform((0.95, 0.97, 0.9), (1.05, 1.03, 1.15))
    daylight = np.array([0.9, 0.95, 1.0]) * rng.uniform(0.5, 1.5)
    return Lighting(
        sun=above.astype(np.float32),
        sun_rgb=(white * rng.uniform(0.6, 1.3)).astype(np.float32),
        sky_rgb=(white * rng.uniform(0.45, 0.8)).astype(np.float32),
        horizon=daylight.astype(np.float32),
        zenith=(daylight * 0.6).astype(np.float32),
        cloud=0.0,
        haze=0.0,
        median=rng.uniform(65, 115),
        gamma=rng.uniform(1.6, 2.2),
        black=rng.uniform(0, 15),
        saturation=rng.uniform(0.8, 1.3),
        noise=rng.uniform(1.5, 5.0),
        tint=rng.normal(1.0, 0.035, 3).astype(np.float32),
    )
