# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The simulator's sensors from a rig file."""

from __future__ import annotations

import numpy as np

from occle_core.rig import LidarRig, Rig, RigError
from occle_train.streets.sensors.rigs import Lidar, RigCamera, SimulatedRig

SPEED = (2.0, 8.0)
"""Slowest and fastest drive, metres per second."""


def rig_from_file(rig: Rig, rng: np.random.Generator, scale: float) -> SimulatedRig:
    """The sensors of one drive; mounting and lenses are those of the file, which the files of the drive repeat.

    Args:
        rig: with poses, beams of the LiDARs, lenses and sizes of the cameras, and a grid.
        rng: relative intensity of the beams.
        scale: of the images.

    Raises:
        RigError: something is missing that only a person or a recording can tell.
    """
    check_rig(rig)
    T_street_base = np.eye(4)
    T_street_base[2, 3] = -rig.ground_z
    mounted = [(_lidar(each, rng), T_street_base @ np.array(each.pose)) for each in rig.lidars.values()]
    cameras = []
    for name, camera in scaled_rig(rig, scale).cameras.items():
        assert camera.lens and camera.width and camera.height
        T = T_street_base @ np.array(camera.pose)
        cameras.append(RigCamera(name, camera.lens.K, T, camera.width, camera.height, camera.lens))
    assert rig.grid is not None
    lead, T_lead = mounted[0]
    period = 1 / rig.lead.rate_hz
    return SimulatedRig(rig.name, tuple(cameras), lead, T_lead, T_street_base, rig.grid.grid, period, SPEED, tuple(mounted[1:]))


def check_rig(rig: Rig) -> None:
    """Make sure that a rig says all that a simulation needs.

    Raises:
        RigError: it does not; the message lists the fields.
    """
    lacking = [
        f"lidars.{name}.{field}" for name, each in rig.lidars.items() for field in ("pose", "beams") if not getattr(each, field)
    ]
    lacking += [
        f"cameras.{name}.{field}"
        for name, each in rig.cameras.items()
        for field in ("pose", "lens", "width", "height")
        if not getattr(each, field)
    ]
    lacking += [] if rig.grid else ["grid"]
    if lacking:
        raise RigError(
            f"the rig {rig.name} cannot be simulated without {', '.join(lacking)}; `occle rig BAG -o rig.yaml` measures them in a "
            "recording, docs/reference/rig.md describes them"
        )


def scaled_rig(rig: Rig, scale: float) -> Rig:
    """The rig with images of another size (pixel centres: u' = (u + 0.5) s - 0.5)."""
    cameras = {}
    for name, camera in rig.cameras.items():
        if scale != 1 and camera.lens and camera.width and camera.height:
            width, height = max(1, round(camera.width * scale)), max(1, round(camera.height * scale))
            sx, sy = width / camera.width, height / camera.height
            focal = {"fx": camera.lens.fx * sx, "fy": camera.lens.fy * sy}
            centre = {"cx": (camera.lens.cx + 0.5) * sx - 0.5, "cy": (camera.lens.cy + 0.5) * sy - 0.5}
            camera = camera.model_copy(
                update={"width": width, "height": height, "lens": camera.lens.model_copy(update={**focal, **centre})}
            )
        cameras[name] = camera
    return rig.model_copy(update={"cameras": cameras})


def _lidar(given: LidarRig, rng: np.random.Generator) -> Lidar:
    beams = given.beams
    assert beams is not None
    low, high = (float(v) for v in np.radians(beams.azimuth_range))
    return Lidar(
        np.radians(beams.elevations),
        max(1, round((beams.azimuth_range[1] - beams.azimuth_range[0]) / beams.azimuth_step)),
        beams.max_range,
        beams.range_noise,
        0.2,
        rng.uniform(0.8, 1.2, len(beams.elevations)).astype(np.float32),
        False,
        (low, high),
        beams.min_range,
    )
