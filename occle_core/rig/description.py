# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Typed description of a sensor rig; rig.yaml and docs/reference/rig.md follow it."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from occle_core.config import Config
from occle_core.geometry.grid import VoxelGrid
from occle_core.rig.pose import Pose

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Offset = Annotated[float, Field(ge=-1e13, le=1e13)]
Triple = tuple[float, float, float]
Count = Annotated[int, Field(ge=1, le=4096)]
StampMeaning = Literal["auto", "start", "middle", "end"]


def _with_a_volume(box: tuple[float, ...]) -> tuple[float, ...]:
    if box and not (len(box) == 6 and all(low < high for low, high in zip(box[:3], box[3:]))):
        raise ValueError(f"needs 6 numbers, the lowest corner's x, y, z before the highest's, not {list(box)}")
    return box


COEFFICIENTS = {"pinhole": (0,), "plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Distortion model -> how many coefficients it may have."""
Box = Annotated[tuple[float, ...], AfterValidator(_with_a_volume)]
"""x, y, z of the lowest corner, then of the highest; empty: no box."""


class BeamTable(Config):
    """Beams of a LiDAR, as a scan shows them: what the simulator casts."""

    elevations: tuple[Annotated[float, Field(ge=-90, le=90)], ...] = Field(
        min_length=1, max_length=1024, description="angle of each beam above the sensor's xy plane, degrees, ring 0 first"
    )
    azimuth_step: float = Field(0.2, gt=0, le=30, description="angle between two firings of a beam, degrees")
    azimuth_range: tuple[float, float] = Field(
        (-180.0, 180.0), description="horizontal field of view, degrees left of the sensor's x axis; -180, 180: a whole turn"
    )
    min_range: float = Field(0.9, ge=0, le=1000, description="shortest range, metres")
    max_range: float = Field(100.0, gt=0, le=10_000, description="longest range, metres")
    range_noise: float = Field(0.02, ge=0, le=10, description="standard deviation of a range, metres")

    @model_validator(mode="after")
    def _ranges_ascend(self) -> BeamTable:
        if self.min_range >= self.max_range:
            raise ValueError(f"min_range {self.min_range} must be less than max_range {self.max_range}")
        low, high = self.azimuth_range
        if not -360 <= low < high <= 360 or high - low > 360:
            raise ValueError(f"azimuth_range must ascend and span at most 360 degrees, not {low} to {high}")
        return self


class LidarRig(Config):
    """One LiDAR, spinning or solid state."""

    topic: str = Field(min_length=1, description="PointCloud2 topic of the scans")
    frame: str = Field("", description="frame of the points; empty: the frame_id of the scans")
    pose: Pose | None = Field(
        None,
        description="pose in the base frame (T_base_lidar): 4x4 by rows, or x, y, z in metres and roll, pitch, yaw in degrees; "
        "left out: from TF",
    )
    intensity_scale: float = Field(1.0, gt=0, le=1e6, description="factor that scales the sensor's intensity to 0..1")
    rate_hz: float = Field(10.0, gt=0, le=1000, description="scans per second")
    time_field: str = Field(
        "",
        description="field of the PointCloud2 with the points' times, whose unit and origin are recognised; empty: t, time, "
        "timestamp, offset_time, ts or time_stamp, where there is one",
    )
    stamp: StampMeaning = Field("auto", description="what the scans' stamp is; auto: as the points' times say")
    time_offset_ms: Offset = Field(0.0, description="offset added to this LiDAR's stamps")
    exclude_box: Box = Field(
        (), description="box around the robot's own body: lowest x, y, z, then highest x, y, z, metres, base frame; points inside "
        "are dropped; the leading LiDAR's is applied to all; empty: no box"
    )  # fmt: skip
    beams: BeamTable | None = Field(None, description="beams; needed to simulate this LiDAR")

    @property
    def T_base_lidar(self) -> NDArray[np.float64] | None:
        """(4, 4), maps the LiDAR's points into the base frame; None: from TF."""
        return None if self.pose is None else np.array(self.pose)


class LensRig(Config):
    """Intrinsics of a camera as CameraInfo has them."""

    model: Literal["pinhole", "plumb_bob", "rational_polynomial", "equidistant"] = Field(
        "pinhole", description="distortion model; pinhole: the images are rectified; equidistant: fisheye (Kannala-Brandt)"
    )
    fx: float = Field(gt=0, description="focal length, pixels")
    fy: float = Field(gt=0, description="focal length, pixels")
    cx: float = Field(description="principal point, pixels")
    cy: float = Field(description="principal point, pixels")
    distortion: tuple[float, ...] = Field((), description="coefficients in OpenCV's order")

    @model_validator(mode="after")
    def _coefficients_fit(self) -> LensRig:
        counts = COEFFICIENTS[self.model]
        if len(self.distortion) not in counts:
            wanted = " or ".join(map(str, counts))
            raise ValueError(f"{self.model} has {wanted} coefficients of distortion, not {len(self.distortion)}")
        return self

    @property
    def is_distorted(self) -> bool:
        """True if the images differ from a pinhole camera's."""
        return self.model == "equidistant" or any(self.distortion)

    @property
    def K(self) -> NDArray[np.float64]:
        """(3, 3) intrinsics, pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])


class CameraRig(Config):
    """One camera."""

    topic: str = Field(min_length=1, description="image topic")
    compressed: bool = Field(False, description="true: the topic's type is CompressedImage (JPEG or PNG); false: Image")
    info_topic: str = Field("", description="CameraInfo topic; empty: the lens is given here")
    frame: str = Field("", description="optical frame; empty: the frame_id of the CameraInfo, else of the images")
    pose: Pose | None = Field(
        None,
        description="pose of the optical frame (x right, y down, z forward) in the base frame (T_base_camera): 4x4 by rows, or "
        "x, y, z in metres and roll, pitch, yaw in degrees (-90, 0, -90 looks ahead); left out: from TF",
    )
    width: int | None = Field(None, ge=1, le=16_384, description="of the image, pixels")
    height: int | None = Field(None, ge=1, le=16_384, description="of the image, pixels")
    lens: LensRig | None = Field(None, description="intrinsics; left out: from the CameraInfo")
    time_offset_ms: Offset = Field(0.0, description="offset added to this camera's stamps before synchronisation")

    @model_validator(mode="after")
    def _intrinsics_are_known(self) -> CameraRig:
        if self.lens is None and not self.info_topic:
            raise ValueError("has no intrinsics: give info_topic, or lens with width and height")
        if self.lens is not None and (self.width is None or self.height is None):
            raise ValueError("lens is for an image size: give width and height too")
        return self

    @property
    def T_base_camera(self) -> NDArray[np.float64] | None:
        """(4, 4), maps points of the optical frame into the base frame; None: from TF."""
        return None if self.pose is None else np.array(self.pose)


class OdometryRig(Config):
    """Motion of the base frame: poses of the scans."""

    frame: str = Field("odom", description="continuous frame of the robot's motion (REP 105), looked up in TF")
    topic: str = Field("", description="nav_msgs/Odometry topic; empty: the poses come from TF")


class GridRig(Config):
    """Voxel grid in the base frame."""

    origin: Triple = Field(description="x, y, z of the lowest corner, metres, base frame")
    shape: tuple[Count, Count, Count] = Field(description="number of cells along x, y, z")
    resolution: float = Field(gt=0, le=100, description="edge of a cell, metres")

    @property
    def grid(self) -> VoxelGrid:
        """The grid."""
        return VoxelGrid(self.origin, self.shape, self.resolution)


class Tolerances(Config):
    """Largest differences in time."""

    camera_ms: Milliseconds = Field(50.0, description="between the stamps of a scan and its images")
    lidar_ms: Milliseconds = Field(60.0, description="between the stamps of the first LiDAR's scan and another's")
    deadline_ms: Milliseconds = Field(150.0, description="live, a frame waits this long; then the missing sensors are masked")
    transform_ms: Milliseconds = Field(500.0, description="between a scan and the nearest known transform, where TF moves")


class Rig(Config):
    """A sensor rig. The first LiDAR leads: each of its scans is a frame."""

    version: Literal[1] = Field(1, description="version of this format")
    name: str = Field("rig", min_length=1, description="name of the rig")
    base_frame: str = Field("base_link", min_length=1, description="frame that poses and the grid are in, fixed to the robot: "
                            "x forward, y left, z up")  # fmt: skip
    odometry: OdometryRig = Field(OdometryRig(), description="motion of the base frame")
    lidars: dict[Name, LidarRig] = Field(min_length=1, description="LiDARs by name, the leading one first")
    cameras: dict[Name, CameraRig] = Field(default_factory=dict, description="cameras by name, in the network's order")
    grid: GridRig | None = Field(None, description="voxel grid to simulate and to train on; predictions are on the bundle's")
    ground_z: float = Field(0.0, ge=-1000, le=1000, description="height of level ground in the base frame, metres")
    classes: str = Field(
        "",
        description="class list: semantickitti, occ3d_nuscenes, sscbench_kitti360, warehouse, or a file of your "
        "own (docs/how_to/own_classes.md), relative to this file; left out: the network's",
    )
    tolerances: Tolerances = Field(Tolerances(), description="tolerances of the synchronisation")

    @model_validator(mode="after")
    def _topics_differ(self) -> Rig:
        topics = [*(lidar.topic for lidar in self.lidars.values()), *(camera.topic for camera in self.cameras.values())]
        if twice := sorted({topic for topic in topics if topics.count(topic) > 1}):
            raise ValueError(f"two sensors have the topic {twice[0]}")
        return self

    @model_validator(mode="after")
    def _frames_have_the_leading_stamps(self) -> Rig:
        if self.lead.time_offset_ms:
            name = next(iter(self.lidars))
            raise ValueError(f"lidars.{name}.time_offset_ms: the leading LiDAR's stamps are the frames'; shift the other sensors")
        return self

    @model_validator(mode="after")
    def _poses_are_whole(self) -> Rig:
        posed = [f"cameras.{name}" for name, camera in self.cameras.items() if camera.pose is not None]
        posed += [f"lidars.{name}" for name, lidar in self.lidars.items() if lidar.pose is not None]
        if posed and self.lead.pose is None:
            raise ValueError(f"{posed[0]}.pose needs lidars.{next(iter(self.lidars))}.pose: give both, or none for TF's")
        return self

    @property
    def lidar_positions(self) -> NDArray[np.float64]:
        """(L, 3) of the LiDARs in the leading one's frame, metres; one without a pose is where the leading one is."""
        T = self.lead.T_base_lidar
        T_lead_base = np.linalg.inv(np.eye(4) if T is None else T)
        poses = (lidar.T_base_lidar for lidar in self.lidars.values())
        return np.array([np.zeros(3) if pose is None else (T_lead_base @ pose)[:3, 3] for pose in poses])

    @property
    def lead(self) -> LidarRig:
        """The leading LiDAR."""
        return next(iter(self.lidars.values()))
