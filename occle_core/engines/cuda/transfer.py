# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Copies between the host and a GPU through pinned memory: many arrays in one copy, and of a grid only the cells that are not free.

A copy from pageable memory waits, and is made twice. On CPUs the same code runs without pinning, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.networks.protocol import NetworkInputs
from occle_core.occupancy import SparseLabels

ALIGNMENT = 256
"""Bytes: where a tensor may begin that kernels read in vectors."""
Inputs = TypeVar("Inputs", bound=NetworkInputs)


class Staging:
    """Tensors that stay where they are on a device, such as a CUDA graph's, and travel there in one copy.

    Args:
        like: tensors of their shapes and types; their values are the first.
        device: torch's name of the device.

    Attributes:
        host: where the next values are written, pinned for a GPU.
        device: the tensors on the device.
    """

    def __init__(self, like: Sequence[Tensor], device: torch.device | str) -> None:
        size, _ = _layout(like)
        self._host = _host_buffer(size, device)
        self._device = torch.empty(size, dtype=torch.uint8, device=device)
        self.host, self.device = _views(self._host, like), _views(self._device, like)
        for held, tensor in zip(self.host, like):
            held.copy_(tensor)
        self.upload()

    def upload(self) -> None:
        """Copy all to the device. The host's memory may be written again when what follows on the device has been waited for."""
        self._device.copy_(self._host, non_blocking=True)


def upload(inputs: Inputs, device: torch.device | str) -> Inputs:
    """A frame's inputs on a device, in one copy."""
    tensors: list[Tensor] = []
    inputs.map(_collecting(tensors))
    size, _ = _layout(tensors)
    host = _host_buffer(size, device)
    for held, tensor in zip(_views(host, tensors), tensors):
        held.copy_(tensor)
    found = iter(_views(host.to(device, non_blocking=True), tensors))
    return inputs.map(lambda tensor: next(found))


def download_grid(labels: Tensor, confidence: Tensor, free: int, *more: Tensor) -> tuple[SparseLabels, list[NDArray[Any]]]:
    """The cells of a label grid that are not free, with their confidence, as arrays of the host.

    Waits for the device twice: for the number of these cells, and for the one copy.

    Args:
        labels: (X, Y, Z) uint8.
        confidence: float16 of that shape, 0 where free.
        free: class of the cells where nothing is.
        more: small tensors that come along whole.
    """
    cells = (labels.reshape(-1) != free).nonzero()[:, 0]
    found = (cells.int(), confidence.reshape(-1)[cells], labels.reshape(-1)[cells], *more)
    size, _ = _layout(found)
    packed = torch.empty(size, dtype=torch.uint8, device=labels.device)
    for held, values in zip(_views(packed, found), found):
        held.copy_(values)
    host = _host_buffer(size, labels.device)
    host.copy_(packed, non_blocking=True)
    if labels.is_cuda:
        torch.cuda.current_stream(labels.device).synchronize()
    rows, sure, classes, *rest = (view.numpy() for view in _views(host, found))
    x, y, z = labels.shape
    sparse = SparseLabels(rows.copy(), classes.copy(), sure.copy(), (x, y, z), free)  # the pinned memory serves the next frame
    return sparse, [array.copy() for array in rest]


def _collecting(tensors: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def collect(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    return collect


def _layout(like: Sequence[Tensor]) -> tuple[int, list[int]]:
    """Bytes of all tensors one behind the other, and where each begins."""
    places, end = [], 0
    for tensor in like:
        places.append(end)
        end += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
    return end, places


def _views(buffer: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tensors of the same shapes and types in a buffer of bytes."""
    _, places = _layout(like)
    parts = [buffer[at : at + tensor.numel() * tensor.element_size()] for at, tensor in zip(places, like)]
    return tuple(part.view(tensor.dtype).view(tensor.shape) for part, tensor in zip(parts, like))


def _host_buffer(size: int, device: torch.device | str) -> Tensor:
    """Bytes of the host, pinned for a GPU; PyTorch keeps freed ones for the next frame."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=torch.device(device).type == "cuda")
