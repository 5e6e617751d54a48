# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The image branch of a network by itself: by OpenVINO where that is installed, else by PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.build_cache import cached
from occle_core.bundle import BundleSpec, weights_digest
from occle_core.engines.openvino_engine import openvino, shared_core
from occle_core.engines.static.export import quiet_export
from occle_core.errors import EngineError
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.minkocc.network import MinkOcc

FORM = "2"
"""Changes when `ImageBranch` computes something else for the same weights."""


class ImageBranch(nn.Module):
    """Images to pyramid levels whose pixels lie in memory one after the other.

    Args:
        network: its image branch is copied, batch norms folded.
        width: channels of a pixel, the network's and zeros behind them.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, network: MinkOcc, width: int) -> None:
        super().__init__()
        folded = fold_batch_norms(network)
        self.register_buffer("image_mean", folded.image_mean)
        self.register_buffer("image_std", folded.image_std)
        self.trunk, self.pyramid = folded.trunk, folded.pyramid
        blocks: Any = self.pyramid.layer_blocks
        for (layer,) in blocks:
            more = width - layer.out_channels
            layer.weight = nn.Parameter(F.pad(layer.weight.detach(), (0, 0, 0, 0, 0, 0, 0, more)), requires_grad=False)
            layer.bias = nn.Parameter(F.pad(layer.bias.detach(), (0, more)), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(V, H, W, 3) uint8 -> (V, H_l, W_l, width) per level, finest first."""
        x = ((images.float() - self.image_mean) / self.image_std).permute(0, 3, 1, 2)
        return tuple(level.permute(0, 2, 3, 1).contiguous() for level in self.pyramid(self.trunk(x)))


class ImageRunner(Protocol):
    """Runs an `ImageBranch`; several threads may call it at the same time."""

    name: str

    def __call__(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """(V, H, W, 3) uint8 -> (V, H_l, W_l, width) float32 per level; they are valid until the thread's next call."""


class TorchImages:
    """The image branch in PyTorch."""

    name = "torch"

    def __init__(self, branch: ImageBranch) -> None:
        self._branch = branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """As `ImageRunner`."""
        with torch.inference_mode():
            return [level.numpy() for level in self._branch(torch.from_numpy(images))]


class OpenVinoImages:
    """The image branch in OpenVINO, in float32.

    Args:
        model: an .xml file, see `image_model`.
        threads: CPU threads of all calls together; None leaves OpenVINO's choice.
        max_concurrent: threads that call at the same time.

    Raises:
        EngineError: openvino is not installed.
    """

    name = "openvino"

    def __init__(self, model: Path, threads: int | None, max_concurrent: int) -> None:
        core = shared_core()
        hint = "LATENCY" if max_concurrent == 1 else "THROUGHPUT"
        options: dict[str, Any] = {"PERFORMANCE_HINT": hint, "NUM_STREAMS": str(max_concurrent), "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(core.read_model(model), "CPU", options)
        self._own = threading.local()

    def __call__(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """As `ImageRunner`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        self._own.request.infer([images], share_inputs=True)
        return [tensor.data for tensor in self._own.request.output_tensors]


def image_model(spec: BundleSpec, network: MinkOcc, width: int, progress: Callable[[str], None], root: Path | None = None) -> Path:
    """The image branch as an OpenVINO model, from the cache, converted the first time.

    Args:
        spec: the bundle's spec.
        network: its network.
        width: channels of a pixel of the result.
        progress: called with what takes long.
        root: the cache; None means the user's.

    Raises:
        EngineError: openvino is not installed.
    """
    ov = openvino()
    image = network.config.image
    key = {"kind": "image branch", "form": FORM, "openvino": ov.__version__, "torch": torch.__version__, "width": str(width)}
    key["weights"] = weights_digest(spec, network)

    def build(folder: Path) -> None:
        progress("converting the image branch to OpenVINO, some seconds, once")
        example = torch.zeros(image.num_cameras, image.height, image.width, 3, dtype=torch.uint8)
        with torch.no_grad(), quiet_export():
            model = ov.convert_model(torch.export.export(ImageBranch(network, width), (example,), strict=False))
        ov.save_model(model, folder / "images.xml", compress_to_fp16=False)

    return cached(key, build, progress, root) / "images.xml"


def image_runner(
    spec: BundleSpec, network: MinkOcc, width: int, threads: int | None, max_concurrent: int, progress: Callable[[str], None]
) -> ImageRunner:
    """OpenVINO's where it is installed, else PyTorch's."""
    try:
        return OpenVinoImages(image_model(spec, network, width, progress), threads, max_concurrent)
    except EngineError as error:
        progress(f"the image branch runs in PyTorch: {error}")
        return TorchImages(ImageBranch(network, width))
