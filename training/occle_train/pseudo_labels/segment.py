# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Masks for boxes by SAM (Kirillov et al., Segment Anything) or SAM 2 (Ravi et al.), through transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from occle_train.pseudo_labels.hub import transformers

BOXES = 16
"""Boxes that are segmented together; bounds the memory of their full-size masks."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which SAM 2 was trained with."""


class Segmenter(Protocol):
    """Makes masks out of boxes."""

    def masks(self, image: NDArray[np.uint8], corners: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
        """A mask (H, W) for each box (N, 4) left, top, right, bottom in pixels, in their order, of an image (H, W, 3)."""


def load_segmenter(name: str, device: str = "cpu") -> Segmenter:
    """SAM or SAM 2, whichever `name` holds.

    Args:
        name: model name or local folder.
        device: torch's name of the device.

    Raises:
        ValueError: another kind of model.
        OSError: nothing can be loaded from `name`.
    """
    kind = transformers().AutoConfig.from_pretrained(name).model_type
    if kind == "sam":
        return Sam(name, device)
    # SAM 2's public checkpoints are stored as video models, of which Sam2Model is the image part.
    if kind in ("sam2", "sam2_video"):
        return Sam2(name, device)
    raise ValueError(
        f"{name} is a {kind} model; needed is SAM or SAM 2, such as facebook/sam-vit-base or facebook/sam2.1-hiera-tiny"
    )


class Sam:
    """SAM with transformers' processor, which works without torchvision."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.processor = transformers().SamProcessor.from_pretrained(name)
        self.model = transformers().SamModel.from_pretrained(name).to(device).eval()
        self.device = device

    @torch.inference_mode()
    def masks(self, image: NDArray[np.uint8], corners: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
        """See `Segmenter`."""
        if not len(corners):
            return
        inputs = self.processor(image, input_boxes=[corners.tolist()], return_tensors="pt")
        embedding = self.model.get_image_embeddings(inputs["pixel_values"].to(self.device))
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        for boxes in torch.split(inputs["input_boxes"].float(), BOXES, 1):
            found = self.model(image_embeddings=embedding, input_boxes=boxes.to(self.device), multimask_output=False)
            yield from self.processor.image_processor.post_process_masks(found.pred_masks.cpu(), *sizes)[0][:, 0].numpy()


class Sam2:
    """SAM 2. Its processor in transformers needs torchvision, which does not go with this torch: the few steps are done here."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.model = transformers().Sam2Model.from_pretrained(name).to(device).eval()
        self.device = device
        self.size = int(self.model.config.prompt_encoder_config.image_size)

    @torch.inference_mode()
    def masks(self, image: NDArray[np.uint8], corners: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
        """See `Segmenter`."""
        if not len(corners):
            return
        height, width = image.shape[:2]
        embeddings = self.model.get_image_embeddings(self._pixels(image))
        scale = torch.tensor([self.size / width, self.size / height] * 2)
        for boxes in torch.split((torch.from_numpy(corners).float() * scale)[None], BOXES, 1):
            found = self.model(image_embeddings=embeddings, input_boxes=boxes.to(self.device), multimask_output=False)
            logits = F.interpolate(found.pred_masks[0].float().cpu(), (height, width), mode="bilinear", align_corners=False)
            yield from (logits[:, 0] > 0).numpy()

    def _pixels(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, S, S): stretched to the square that the model reads, ImageNet-normalised."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        return ((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)).to(self.device)
