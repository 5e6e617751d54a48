# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The simulator's own classes and what each is called in SemanticKITTI, Occ3D-nuScenes and nuScenes-lidarseg."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StreetClass:
    """One internal class.

    Args:
        name: internal name.
        kitti, kitti_moving: raw SemanticKITTI ids of a resting and of a moving object.
        kitti_class: SemanticKITTI taxonomy id (255: none).
        occ3d: Occ3D-nuScenes id.
        lidarseg: index among nuScenes-lidarseg's 32 general classes.
        category: nuScenes category of an annotated object ("" for stuff).
        rank: where two classes share a cell the higher rank labels it, equal ranks by majority.
        reflectance: LiDAR intensity in 0..1 at perpendicular incidence.
    """

    name: str
    kitti: int
    kitti_moving: int
    kitti_class: int
    occ3d: int
    lidarseg: int
    category: str
    rank: int
    reflectance: float


CLASSES = (
    StreetClass("car", 10, 252, 1, 4, 17, "vehicle.car", 3, 0.16),
    StreetClass("truck", 18, 258, 4, 10, 23, "vehicle.truck", 3, 0.28),
    StreetClass("bus", 13, 257, 5, 3, 16, "vehicle.bus.rigid", 3, 0.26),
    StreetClass("trailer", 20, 259, 5, 9, 22, "vehicle.trailer", 3, 0.28),
    StreetClass("construction_vehicle", 20, 259, 5, 5, 18, "vehicle.construction", 3, 0.33),
    StreetClass("other_vehicle", 20, 259, 5, 0, 19, "vehicle.emergency.ambulance", 3, 0.25),
    StreetClass("bicycle", 11, 11, 2, 2, 14, "vehicle.bicycle", 5, 0.16),
    StreetClass("motorcycle", 15, 15, 3, 6, 21, "vehicle.motorcycle", 5, 0.20),
    StreetClass("bicyclist", 31, 253, 7, 2, 14, "vehicle.bicycle", 5, 0.33),
    StreetClass("motorcyclist", 32, 255, 8, 6, 21, "vehicle.motorcycle", 5, 0.30),
    StreetClass("person", 30, 254, 6, 7, 2, "human.pedestrian.adult", 5, 0.5),
    StreetClass("road", 40, 40, 9, 11, 24, "", 0, 0.31),
    StreetClass("lane_marking", 60, 60, 9, 11, 24, "", 0, 0.46),
    StreetClass("parking", 44, 44, 10, 11, 24, "", 0, 0.26),
    StreetClass("sidewalk", 48, 48, 11, 13, 26, "", 0, 0.34),
    StreetClass("other_ground", 49, 49, 12, 12, 25, "", 0, 0.36),
    StreetClass("terrain", 72, 72, 17, 14, 27, "", 0, 0.38),
    StreetClass("building", 50, 50, 13, 15, 28, "", 2, 0.42),
    StreetClass("fence", 51, 51, 14, 15, 28, "", 2, 0.36),
    StreetClass("vegetation", 70, 70, 15, 16, 30, "", 1, 0.42),
    StreetClass("trunk", 71, 71, 16, 16, 30, "", 4, 0.42),
    StreetClass("pole", 80, 80, 18, 15, 28, "", 5, 0.30),
    StreetClass("traffic_sign", 81, 81, 19, 15, 28, "", 6, 0.60),
    StreetClass("barrier", 51, 51, 14, 1, 9, "movable_object.barrier", 4, 0.40),
    StreetClass("traffic_cone", 99, 99, 255, 8, 12, "movable_object.trafficcone", 6, 0.45),
    StreetClass("clutter", 99, 99, 255, 15, 28, "", 4, 0.30),
    StreetClass("structure", 52, 52, 255, 15, 28, "", 2, 0.35),
    StreetClass("pushable", 99, 99, 255, 0, 11, "movable_object.pushable_pullable", 4, 0.30),
)

ID = {c.name: i for i, c in enumerate(CLASSES)}
"""Internal id by name."""

KITTI_RAW = np.array([c.kitti for c in CLASSES], np.uint16)
KITTI_MOVING = np.array([c.kitti_moving for c in CLASSES], np.uint16)
KITTI_CLASS = np.array([c.kitti_class for c in CLASSES], np.uint8)
OCC3D_CLASS = np.array([c.occ3d for c in CLASSES], np.uint8)
LIDARSEG = np.array([c.lidarseg for c in CLASSES], np.uint8)
RANK = np.array([c.rank for c in CLASSES], np.uint8)
REFLECTANCE = np.array([c.reflectance for c in CLASSES], np.float32)
