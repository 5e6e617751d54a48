# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The simulator's own classes and what each is called in SemanticKITTI, Occ3D-nuScenes, nuScenes-lidarseg and warehouse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occle_core import taxonomy


@dataclass(frozen=True)
class SimulatedClass:
    """One internal class.

    Args:
        name: internal name.
        kitti, kitti_moving: raw SemanticKITTI ids of a resting and of a moving object; 0 for what no street has.
        kitti_class: SemanticKITTI taxonomy id (255: none).
        occ3d: Occ3D-nuScenes id (255: none).
        lidarseg: index among nuScenes-lidarseg's 32 general classes.
        category: nuScenes category of an annotated object ("" for stuff).
        rank: where two classes share a cell the higher rank labels it, equal ranks by majority.
        reflectance: LiDAR intensity in 0..1 at perpendicular incidence.
        warehouse: name in the class list warehouse ("": no hall or yard has it).
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
    warehouse: str = ""


CLASSES = (
    SimulatedClass("car", 10, 252, 1, 4, 17, "vehicle.car", 3, 0.16, "vehicle"),
    SimulatedClass("truck", 18, 258, 4, 10, 23, "vehicle.truck", 3, 0.28, "vehicle"),
    SimulatedClass("bus", 13, 257, 5, 3, 16, "vehicle.bus.rigid", 3, 0.26, "vehicle"),
    SimulatedClass("trailer", 20, 259, 5, 9, 22, "vehicle.trailer", 3, 0.28, "vehicle"),
    SimulatedClass("construction_vehicle", 20, 259, 5, 5, 18, "vehicle.construction", 3, 0.33, "vehicle"),
    SimulatedClass("other_vehicle", 20, 259, 5, 0, 19, "vehicle.emergency.ambulance", 3, 0.25, "vehicle"),
    SimulatedClass("bicycle", 11, 11, 2, 2, 14, "vehicle.bicycle", 5, 0.16),
    SimulatedClass("motorcycle", 15, 15, 3, 6, 21, "vehicle.motorcycle", 5, 0.20),
    SimulatedClass("bicyclist", 31, 253, 7, 2, 14, "vehicle.bicycle", 5, 0.33),
    SimulatedClass("motorcyclist", 32, 255, 8, 6, 21, "vehicle.motorcycle", 5, 0.30),
    SimulatedClass("person", 30, 254, 6, 7, 2, "human.pedestrian.adult", 5, 0.5, "person"),
    SimulatedClass("road", 40, 40, 9, 11, 24, "", 0, 0.31),
    SimulatedClass("lane_marking", 60, 60, 9, 11, 24, "", 0, 0.46),
    SimulatedClass("parking", 44, 44, 10, 11, 24, "", 0, 0.26),
    SimulatedClass("sidewalk", 48, 48, 11, 13, 26, "", 0, 0.34),
    SimulatedClass("other_ground", 49, 49, 12, 12, 25, "", 0, 0.36),
    SimulatedClass("terrain", 72, 72, 17, 14, 27, "", 0, 0.38, "floor"),
    SimulatedClass("building", 50, 50, 13, 15, 28, "", 2, 0.42, "wall"),
    SimulatedClass("fence", 51, 51, 14, 15, 28, "", 2, 0.36, "barrier"),
    SimulatedClass("vegetation", 70, 70, 15, 16, 30, "", 1, 0.42, "vegetation"),
    SimulatedClass("trunk", 71, 71, 16, 16, 30, "", 4, 0.42, "vegetation"),
    SimulatedClass("pole", 80, 80, 18, 15, 28, "", 5, 0.30, "column"),
    SimulatedClass("traffic_sign", 81, 81, 19, 15, 28, "", 6, 0.60),
    SimulatedClass("barrier", 51, 51, 14, 1, 9, "movable_object.barrier", 4, 0.40, "barrier"),
    SimulatedClass("traffic_cone", 99, 99, 255, 8, 12, "movable_object.trafficcone", 6, 0.45, "barrier"),
    SimulatedClass("clutter", 99, 99, 255, 15, 28, "", 4, 0.30, "goods"),
    SimulatedClass("structure", 52, 52, 255, 15, 28, "", 2, 0.35, "wall"),
    SimulatedClass("pushable", 99, 99, 255, 0, 11, "movable_object.pushable_pullable", 4, 0.30, "goods"),
    SimulatedClass("floor", 0, 0, 255, 255, 0, "", 0, 0.33, "floor"),
    SimulatedClass("wall", 0, 0, 255, 255, 0, "", 2, 0.45, "wall"),
    SimulatedClass("ceiling", 0, 0, 255, 255, 0, "", 2, 0.4, "ceiling"),
    SimulatedClass("column", 0, 0, 255, 255, 0, "", 5, 0.4, "column"),
    SimulatedClass("rack", 0, 0, 255, 255, 0, "", 4, 0.3, "rack"),
    SimulatedClass("goods", 0, 0, 255, 255, 0, "", 3, 0.38, "goods"),
    SimulatedClass("machine", 0, 0, 255, 255, 0, "", 3, 0.3, "machine"),
    SimulatedClass("forklift", 0, 0, 255, 255, 0, "", 3, 0.3, "forklift"),
)

ID = {c.name: i for i, c in enumerate(CLASSES)}
"""Internal id by name."""

KITTI_RAW = np.array([c.kitti for c in CLASSES], np.uint16)
KITTI_MOVING = np.array([c.kitti_moving for c in CLASSES], np.uint16)
KITTI_CLASS = np.array([c.kitti_class for c in CLASSES], np.uint8)
OCC3D_CLASS = np.array([c.occ3d for c in CLASSES], np.uint8)
LIDARSEG = np.array([c.lidarseg for c in CLASSES], np.uint8)
WAREHOUSE_CLASS = np.array([taxonomy.load("warehouse").id(c.warehouse) if c.warehouse else 255 for c in CLASSES], np.uint8)
RANK = np.array([c.rank for c in CLASSES], np.uint8)
REFLECTANCE = np.array([c.reflectance for c in CLASSES], np.float32)
