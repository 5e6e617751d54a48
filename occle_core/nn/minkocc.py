"""MinkOcc (Sze, De Martini and Kunze): early fusion of images into LiDAR voxels, sparse completion, a class per voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from occle_core.config import NetworkConfig
from occle_core.inputs import Inputs
from occle_core.nn.fpn import FeaturePyramid
from occle_core.nn.mink_unet import GenerativeUNet, Level
from occle_core.nn.point_fusion import PointEncoder
from occle_core.nn.resnet import ResNet
from occle_core.sparse import SparseTensor
from occle_core.sparse.coordinates import Coordinates

IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)


@dataclass
class Prediction:
    """What the network says about a batch.

    Attributes:
        classes: (N, num_classes) logits on the cells that survived pruning; the free class is one of them.
        levels: every decoder level's proposals, finest first (training reads them).
    """

    classes: SparseTensor
    levels: list[Level]


class MinkOcc(nn.Module):
    """The whole network.

    Args:
        config: sizes.
        num_classes: classes of the taxonomy, free included.
        shape: cells of the grid along x, y, z.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: NetworkConfig, num_classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGE_STD), persistent=False)
        self.trunk = ResNet(config.image.backbone, config.image.base_width, config.image.stages)
        self.pyramid = FeaturePyramid(self.trunk.channels, config.image.channels)
        self.points = PointEncoder(config.image.channels, config.unet.channels[0])
        self.unet = GenerativeUNet(config.unet.channels, config.unet.decoder, config.unet.blocks, config.unet.keep)
        self.head = nn.Linear(config.unet.channels[0], num_classes)

    @property
    def set_names(self) -> dict[str, int]:
        """Names and levels of the sets of cells that the network makes, see GenerativeUNet.set_names."""
        return self.unet.set_names

    def forward(
        self,
        inputs: Inputs,
        occupied: Sequence[Tensor] | None = None,
        stage_done: Callable[[str], None] = lambda stage: None,
        coordinates: Coordinates | None = None,
    ) -> Prediction:
        """Predict.

        Args:
            inputs: a batch.
            occupied: training only, see GenerativeUNet.forward.
            stage_done: called with the name of each finished stage, for timing.
            coordinates: the voxels in their static form; None makes the dynamic one from inputs.coords.
        """
        if coordinates is None:
            coordinates = Coordinates.from_coords(inputs.coords, self.shape, inputs.batch_size)
        images = (inputs.images.float().flatten(0, 1) - self.image_mean) / self.image_std
        pyramid = self.pyramid(self.trunk(images.permute(0, 3, 1, 2)))
        stage_done("image")
        voxels = self.points(inputs, pyramid)
        stage_done("fusion")
        features, levels = self.unet(SparseTensor.at(coordinates, voxels), occupied)
        classes = features.with_features(self.head(features.features))
        stage_done("voxels")
        return Prediction(classes, levels)


def label_grid(classes: SparseTensor, free: int) -> tuple[Tensor, Tensor]:
    """Class logits on the surviving cells as grids.

    Returns:
        labels (B, X, Y, Z) uint8, `free` where no cell survived, and confidence (B, X, Y, Z) float16, 0 where free.
    """
    label, sure = decide(classes.features, free)
    volume = classes.coordinates.volume
    return volume(label, free).to(torch.uint8), volume(sure, 0.0).to(torch.float16)


def decide(logits: Tensor, free: int) -> tuple[Tensor, Tensor]:
    """The class of each logit vector (N, classes, ...) and its softmax probability, 0 where free; both (N, ...) float32."""
    logits = logits.float()
    if torch.compiler.is_exporting():
        best = logits.amax(1, keepdim=True)
        # The first of the best, without argmax, which engines compute by sorting.
        numbers = torch.arange(logits.shape[1], dtype=torch.float32, device=logits.device)
        label = torch.where(logits == best, numbers.view(-1, *[1] * (logits.ndim - 2)), logits.shape[1]).amin(1)
    else:
        best, label = logits.max(1, keepdim=True)
        label = label[:, 0].float()
    return label, torch.where(label == free, 0.0, 1 / (logits - best).exp().sum(1))
