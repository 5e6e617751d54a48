# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The sizes of an OccLE network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from occle_core.config import OWN_VEHICLE_RADIUS, Config

ImageExtractor = Literal["unet", "mobilenet", "espnetv2"]

FEATURE_STRIDE = 2
"""Feature grids have cells of twice the edge length (0.4 m for SemanticKITTI's 0.2 m)."""


class ScanConfig(Config):
    """VoxelNet's voxelisation."""

    min_range: float = Field(0.0, ge=0, description="horizontal distance up to which points are the vehicle itself, metres")
    max_points: int = Field(35, ge=1, description="points kept per voxel (Sec. 3.2)")
    channels: int = Field(16, ge=4, description="channels of a voxel's features")


class SemanticConfig(Config):
    """Semantic branch: 2D UNet and sparse UNet3D, both down to an eighth of their input."""

    image_extractor: ImageExtractor = Field("unet", description="encoder of the 2D UNet; the others are the paper's Table 4's")
    image_channels: tuple[int, int, int] = Field(
        (16, 32, 64), description="channels of the 2D UNet at strides 2, 4, 8 (MobileNet: 64, 128, 256; ESPNetv2: 32, 64, 128)"
    )
    lidar_channels: tuple[int, ...] = Field(
        (16, 24, 32, 48),
        min_length=2,
        max_length=4,
        description="channels of the sparse UNet3D at strides 1, 2, 4, 8; its layers in the paper's Table 4 are one less",
    )


class GeometricConfig(Config):
    """Geometric branch: ResNet and sparse convolutions, brought together on three planes."""

    synergy: Literal["planes", "deformable"] = Field(
        "planes",
        description="how images and scans come together: on three planes, or by 3D convolutions and 3D deformable attention "
        "(the paper's baseline in Table 5)",
    )

    backbone: Literal["resnet18", "resnet34", "resnet50"] = Field("resnet18", description="torchvision's name of the ResNet")
    base_width: int = Field(16, ge=8, description="channels of the ResNet's first stage; torchvision's have 64")
    num_stages: int = Field(3, ge=1, le=4, description="residual stages; strides are 4, 8, 16, 32")
    num_heads: int = Field(2, ge=1, description="attention heads")


class FusionConfig(Config):
    """Dual Mamba."""

    instead: Literal["occfusion"] | None = Field(
        None,
        description="what fuses in its place: OccFusion's concatenation, convolution and channel weights, for the paper's Table 7",
    )

    stage_channels: tuple[int, int, int, int] = Field((32, 48, 48, 48), description="channels per downsampling stage, finest first")
    state_size: int = Field(8, ge=1, description="states per channel of the scans")
    expand: int = Field(1, ge=1, description="inner channels per channel of the scans")


class OccleConfig(Config):
    """The whole network."""

    kind: Literal["occle"] = "occle"
    num_cameras: int = Field(1, ge=1, description="how many cameras the rig has; fewer images are masked")
    width: int = Field(640, ge=32, description="width that images are resized to, pixels, a multiple of 8")
    height: int = Field(192, ge=32, description="height that images are resized to, pixels, a multiple of 8")
    crop: tuple[int, int] | None = Field(
        None,
        description="width and height that images are cut to from the upper left, then padded to the network's; None resizes them",
    )
    num_frames: int = Field(1, ge=1, description="frames that the geometric branch sees, the present one included")
    frame_stride: int = Field(1, ge=1, description="it sees each n-th of the frames before the present one")
    channels: int = Field(24, ge=4, description="channels of the semantic, the geometric and the fused feature grid, even")
    scan: ScanConfig = ScanConfig()
    semantic: SemanticConfig = SemanticConfig()
    geometric: GeometricConfig = GeometricConfig()
    fusion: FusionConfig = FusionConfig()

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) that images are resized to."""
        return self.width, self.height

    @property
    def levels(self) -> int:
        """Number of times that sizes of grid and images have to be divisible by 2, whatever its UNets' channels."""
        return 3

    @property
    def reads_sweeps(self) -> bool:
        """False: it reads whole frames, with their images."""
        return False

    @property
    def needs_images(self) -> bool:
        """True: both branches lift images, and no training leaves them out (the shipped bundle's IoU halves without)."""
        return True

    @property
    def max_points(self) -> int:
        """Points kept per voxel."""
        return self.scan.max_points


CROPS: dict[str, tuple[int, int]] = {"kitti": (1220, 370), "nuscenes": (1600, 900), "kitti360": (1408, 376)}
"""Width and height that the paper crops the images of each data set to (D.2)."""


def small(rig: Literal["kitti", "nuscenes"], frames: int = 1) -> OccleConfig:
    """For CPUs and grids of 0.4 m: a narrow ResNet-18 instead of the paper's ResNet-50, fewer points and channels."""
    scan = ScanConfig(max_points=6, min_range=0.0 if rig == "kitti" else OWN_VEHICLE_RADIUS)
    if rig == "kitti":
        return OccleConfig(num_frames=frames, scan=scan)
    return OccleConfig(num_cameras=6, width=352, height=192, num_frames=frames, scan=scan)


def base(rig: Literal["kitti", "nuscenes", "kitti360"] = "kitti") -> OccleConfig:
    """The paper's sizes where it states them (Sec. 3.2 and D.2): ResNet-50, 35 points, image sizes rounded up to multiples of 8.

    One frame for nuScenes; for KITTI five, at t, t-3, t-6, t-9 and t-12, as the works that the paper follows there use (Li et al.,
    VoxFormer-T). Channels are ours. Images are resized; the paper's crops are `CROPS`.
    """
    sizes = {name: (-(-width // 8) * 8, -(-height // 8) * 8) for name, (width, height) in CROPS.items()}
    return OccleConfig(
        num_cameras=6 if rig == "nuscenes" else 1,
        width=sizes[rig][0],
        height=sizes[rig][1],
        num_frames=1 if rig == "nuscenes" else 5,
        frame_stride=1 if rig == "nuscenes" else 3,
        channels=32,
        scan=ScanConfig(channels=32, min_range=OWN_VEHICLE_RADIUS if rig == "nuscenes" else 0.0),
        semantic=SemanticConfig(image_channels=(32, 64, 128), lidar_channels=(32, 48, 64, 96)),
        geometric=GeometricConfig(backbone="resnet50", base_width=64, num_stages=4),
        fusion=FusionConfig(stage_channels=(64, 96, 128, 128), state_size=16, expand=2),
    )


def tiny(cameras: int = 1, frames: int = 2, min_range: float = 0.0) -> OccleConfig:
    """For tests: every part is there, nothing is large."""
    return OccleConfig(
        num_cameras=cameras,
        width=64,
        height=32,
        num_frames=frames,
        channels=8,
        scan=ScanConfig(max_points=3, channels=8, min_range=min_range),
        semantic=SemanticConfig(image_channels=(4, 8, 8), lidar_channels=(8, 8, 8, 8)),
        geometric=GeometricConfig(base_width=8, num_stages=2),
        fusion=FusionConfig(stage_channels=(8, 8, 8, 8), state_size=4),
    )
