"""Sun, sky and exposure of a drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Light:
    """Illumination and camera response.

    Args:
        sun: (3,) float32 unit vector towards the sun.
        sun_rgb, sky_rgb: (3,) light of the sun and of the sky dome.
        horizon, zenith: (3,) sky colours; cloud: share of the sky that is covered, 0..1.
        haze: share of the horizon colour that 100 m of air add, 0..1.
        exposure: gain before the tone curve; gamma: its exponent; noise: standard deviation in grey levels.
        tint: (3,) white balance.
    """

    sun: NDArray[np.float32]
    sun_rgb: NDArray[np.float32]
    sky_rgb: NDArray[np.float32]
    horizon: NDArray[np.float32]
    zenith: NDArray[np.float32]
    cloud: float
    haze: float
    exposure: float
    gamma: float
    noise: float
    tint: NDArray[np.float32]


def make_light(rng: np.random.Generator) -> Light:
    """A random hour and weather of the day."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 65))
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    cloud = float(rng.choice([rng.uniform(0, 0.35), rng.uniform(0.35, 0.8), 1.0], p=[0.5, 0.25, 0.25]))
    bright = 1.0 if cloud < 0.9 else rng.uniform(0.0, 0.25)
    warm = np.array([1.0, 0.93 + 0.05 * np.sin(elevation), 0.8 + 0.15 * np.sin(elevation)])
    blue, grey = np.array([0.75, 0.87, 1.0]), np.array([0.95, 0.97, 1.0])
    overcast = min(cloud * 1.1, 1.0)
    sky = (blue * (1 - overcast) + grey * overcast) * rng.uniform(0.28, 0.5) * (1 if bright == 1.0 else 2.2)
    zenith = np.array([0.12, 0.3, 0.75]) * rng.uniform(0.7, 1.3) * (1 - overcast) + np.array([0.75, 0.78, 0.82]) * overcast
    horizon = np.array([0.65, 0.8, 0.98]) * (1 - overcast) + np.array([0.92, 0.93, 0.95]) * overcast
    return Light(
        sun.astype(np.float32), (warm * 1.9 * bright).astype(np.float32), sky.astype(np.float32),
        horizon.astype(np.float32), zenith.astype(np.float32), cloud, rng.uniform(0.0, 0.25),
        rng.uniform(0.75, 1.5), rng.uniform(1.7, 2.3), rng.uniform(1.0, 4.0), rng.normal(1.0, 0.035, 3).astype(np.float32),
    )  # fmt: skip
