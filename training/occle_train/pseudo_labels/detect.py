# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Boxes of phrases by Grounding DINO (Liu et al., Grounding DINO), through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_train.pseudo_labels.hub import transformers


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes found in an image, with phrases and scores.

    Args:
        corners: (N, 4) left, top, right, bottom, pixels.
        phrases: (N,) which phrase fits each box best.
        scores: (N,) how well, 0..1.
    """

    corners: NDArray[np.float32]
    phrases: NDArray[np.int64]
    scores: NDArray[np.float32]


class GroundingDino:
    """Finds phrases.

    A box's score for a phrase is the mean over the phrase's tokens, and the box goes to its best phrase. transformers' own
    post-processing gives strings of all tokens above a threshold instead, in which phrases merge.

    Args:
        name: model name or local folder of a grounding-dino model with its processor.
        phrases: lower case, without full stops.
        device: torch's name of the device.
        threshold: least score of a box.

    Raises:
        ValueError: a phrase has more tokens than the model reads.
        OSError: nothing can be loaded from `name`.
    """

    def __init__(self, name: str, phrases: Sequence[str], device: str = "cpu", threshold: float = 0.3) -> None:
        self.processor = transformers().AutoProcessor.from_pretrained(name)
        self.model = transformers().AutoModelForZeroShotObjectDetection.from_pretrained(name).to(device).eval()
        self.device, self.threshold = device, threshold
        self.captions = _captions(self.processor.tokenizer, phrases, int(self.model.config.max_text_len))

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The boxes in an image (H, W, 3) uint8 RGB; a caption's boxes after another's."""
        corners, phrases, scores = [], [], []
        for text, spans, numbers in self.captions:
            inputs = self.processor(images=image, text=text, return_tensors="pt").to(self.device)
            found = self.model(**inputs)
            score, best = (torch.sigmoid(found.logits[0].float()).cpu() @ spans[: found.logits.shape[-1]]).max(1)
            keep = score >= self.threshold
            corners.append(_corners(found.pred_boxes[0].float().cpu()[keep], image.shape[1], image.shape[0]))
            phrases.append(numbers[best[keep]])
            scores.append(score[keep])
        return Detections(torch.cat(corners).numpy(), torch.cat(phrases).numpy(), torch.cat(scores).numpy())


def _captions(tokenizer: Any, phrases: Sequence[str], limit: int) -> list[tuple[str, Tensor, Tensor]]:
    """Captions of as many phrases as the text encoder reads in one pass.

    Returns:
        per caption its text, (limit, P) float32 whose columns average over each phrase's tokens, and (P,) the phrases' numbers.
    """
    groups: list[list[int]] = [[]]
    for number, phrase in enumerate(phrases):
        if len(tokenizer(_caption([phrase]))["input_ids"]) > limit:
            raise ValueError(f"the phrase {phrase!r} has more tokens than the {limit} that this model reads")
        if len(tokenizer(_caption([phrases[n] for n in (*groups[-1], number)]))["input_ids"]) > limit:
            groups.append([])
        groups[-1].append(number)
    captions = []
    for group in groups:
        text = _caption([phrases[number] for number in group])
        spans, start = torch.zeros(limit, len(group)), 0
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        for column, number in enumerate(group):
            end = start + len(phrases[number])
            tokens = [at for at, (a, b) in enumerate(offsets) if a < b and start <= a and b <= end]
            spans[tokens, column] = 1 / len(tokens)
            start = end + 2
        captions.append((text, spans, torch.tensor(group)))
    return captions


def _caption(phrases: Sequence[str]) -> str:
    """Grounding DINO's format: phrases end in a full stop."""
    return ". ".join(phrases) + "."


def _corners(boxes: Tensor, width: int, height: int) -> Tensor:
    """(N, 4) centre and size relative to the image -> left, top, right, bottom in pixels, inside the image."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    corners = torch.cat([centre - size / 2, centre + size / 2], 1).clamp(0, 1)
    return corners * torch.tensor([width, height, width, height], dtype=torch.float32)
