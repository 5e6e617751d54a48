# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pretrained weights of a network's image trunk: a ResNet's state dict with torchvision's names, ImageNet's for example."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from occle_core.networks.blocks.resnet import ResNet

REMEDY = "torchvision's resnet18, resnet34 and resnet50 fit networks of the same depth and 64 channels (--size base has resnet50)"


def load_image_weights(file: Path, network: nn.Module) -> dict[str, Any]:
    """Put a ResNet's weights into a network's only ResNet. No code of the file is executed.

    Args:
        file: .safetensors, or a checkpoint of torch.save that holds tensors alone. The classifier's weights (fc) are not used, and
            stages that the network lacks neither.
        network: MinkOcc or OccLE.

    Returns:
        what was used, for the provenance: "file" and "sha256".

    Raises:
        ValueError: no state dict, weights are missing, or their shapes are others.
        OSError: the file cannot be read.
    """
    weights = _read(file)
    (trunk,) = [module for module in network.modules() if isinstance(module, ResNet)]
    own = trunk.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"--image-weights {file}: no {missing[0]} and {len(missing) - 1} more in it; {REMEDY}")
    wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if wrong:
        name = wrong[0]
        shapes = f"{tuple(weights[name].shape)}, the network's is {tuple(own[name].shape)}"
        raise ValueError(f"--image-weights {file}: its {name} is {shapes}; {REMEDY}")
    extra = [name for name in weights if name not in own and not name.startswith(("fc.", "layer"))]
    if extra:
        raise ValueError(f"--image-weights {file}: {extra[0]} is no weight of a ResNet; {REMEDY}")
    trunk.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()[:16]}


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"--image-weights {file}: no such file")
    try:
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        # PyTorch's own text recommends to load the file as code.
        raise ValueError(
            f"--image-weights {file}: damaged, or no state dict of tensors alone; other pickled objects are never loaded. Save "
            "model.state_dict()"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"--image-weights {file}: it holds no state dict of tensors; save model.state_dict()")
    return content
