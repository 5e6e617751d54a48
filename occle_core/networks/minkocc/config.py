# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sizes of a MinkOcc network, and presets of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from occle_core.config import OWN_VEHICLE_RADIUS, Config


class ImageConfig(Config):
    """The image branch: ResNet + FPN."""

    num_cameras: int = Field(1, ge=1, description="how many cameras the rig has; fewer images are masked")
    width: int = Field(640, ge=32, description="width that images are resized to, pixels, a multiple of the coarsest stride")
    height: int = Field(192, ge=32, description="height that images are resized to, pixels, a multiple of the coarsest stride")
    backbone: Literal["resnet18", "resnet34", "resnet50"] = Field("resnet18", description="torchvision's name of the ResNet")
    base_width: int = Field(32, ge=8, description="channels of the first stage; torchvision's ResNets have 64")
    num_stages: int = Field(3, ge=1, le=4, description="residual stages; strides are 4, 8, 16, 32")
    channels: int = Field(32, ge=4, description="channels of every FPN level and of a point's image feature")


class PointConfig(Config):
    """The point branch: dynamic voxel feature encoding with PointFusion."""

    min_range: float = Field(0.0, ge=0, description="horizontal distance up to which points are the vehicle itself, metres")
    max_points: int = Field(6, ge=1, description="points kept per voxel, spread evenly over the scan's order")
    max_views: int = Field(2, ge=1, description="cameras sampled per point, the most central first")
    channels: int = Field(32, ge=4, description="channels of the point features and the finest voxels")
    sweeps: int = Field(
        1, ge=1, le=32, description="scans that are read: the present one and those before it, moved to its place, with their age"
    )


class UNetConfig(Config):
    """The generative sparse UNet."""

    encoder_channels: tuple[PositiveInt, ...] = Field(
        (32, 48, 64, 96), min_length=1, description="channels per level; every level halves the resolution"
    )
    decoder_channels: tuple[PositiveInt, ...] = Field(
        (16, 32, 48), description="channels per decoder level, finest first; one level less"
    )
    encoder_blocks: tuple[NonNegativeInt, ...] = Field((1, 1, 1, 1), description="residual blocks per encoder level")
    prune_thresholds: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.42, 0.3, 0.2), description="least occupancy probability that survives pruning, finest level first"
    )


class MinkOccConfig(Config):
    """MinkOcc: image branch, point branch, sparse UNet."""

    kind: Literal["minkocc"] = "minkocc"
    image: ImageConfig = ImageConfig()
    points: PointConfig = PointConfig()
    unet: UNetConfig = UNetConfig()

    @property
    def num_cameras(self) -> int:
        """Images of a frame."""
        return self.image.num_cameras

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) that images are resized to."""
        return self.image.width, self.image.height

    @property
    def num_frames(self) -> int:
        """Scans that the network sees, the present one included."""
        return self.points.sweeps

    @property
    def reads_sweeps(self) -> bool:
        """True: of the scans before the present frame it reads the points alone, and of nuScenes those between keyframes."""
        return self.points.sweeps > 1

    @property
    def needs_images(self) -> bool:
        """False: points without an image have features of their own, and trainings leave cameras out."""
        return False

    @property
    def frame_stride(self) -> int:
        """It sees every scan before the present one."""
        return 1

    @property
    def levels(self) -> int:
        """Number of times the UNet halves the grid."""
        return len(self.unet.encoder_channels) - 1

    @property
    def max_points(self) -> int:
        """Points kept per voxel."""
        return self.points.max_points


def small(rig: Literal["kitti", "nuscenes"]) -> MinkOccConfig:
    """Fast enough for the sensor's rate on a laptop CPU."""
    if rig == "kitti":
        return MinkOccConfig(points=PointConfig(max_views=1))
    return MinkOccConfig(image=ImageConfig(num_cameras=6, width=352, height=192), points=PointConfig(min_range=OWN_VEHICLE_RADIUS))


def base(rig: Literal["kitti", "nuscenes"] = "nuscenes") -> MinkOccConfig:
    """The paper's ResNet-50 and six cameras (MinkOcc, Sec. III and IV-A); it names no image size, 704 x 256 is ours."""
    image = ImageConfig(
        num_cameras=6 if rig == "nuscenes" else 1,
        width=704,
        height=256,
        backbone="resnet50",
        base_width=64,
        num_stages=4,
        channels=128,
    )
    return MinkOccConfig(
        image=image,
        points=PointConfig(max_points=35, channels=64, min_range=OWN_VEHICLE_RADIUS if rig == "nuscenes" else 0.0),
        unet=UNetConfig(encoder_channels=(64, 96, 128, 256), decoder_channels=(64, 96, 128), encoder_blocks=(2, 2, 2, 2)),
    )


def tiny(rig: Literal["kitti", "nuscenes"]) -> MinkOccConfig:
    """For tests: every part is there, nothing is large."""
    image = ImageConfig(num_cameras=1 if rig == "kitti" else 6, width=128, height=64, base_width=8, num_stages=2, channels=8)
    return MinkOccConfig(
        image=image,
        points=PointConfig(max_points=3, channels=8, min_range=OWN_VEHICLE_RADIUS if rig == "nuscenes" else 0.0),
        unet=UNetConfig(encoder_channels=(8, 12, 16, 16), decoder_channels=(8, 8, 12)),
    )
