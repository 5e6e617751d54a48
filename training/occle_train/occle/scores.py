# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores and latencies of an OccLE network and its branches on frames with a truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.networks.occle.inputs import OccleInputs
from occle_core.networks.occle.network import OccLE
from occle_core.sparse import SparseTensor
from occle_core.taxonomy import IGNORE
from occle_train.metrics import CompletionMetrics
from occle_train.occle.augment import OccleAugment, max_points
from occle_train.occle.batches import NONE, disturbed_inputs
from occle_train.occle.samples import OccleSamples


@torch.inference_mode()
def segmentation(network: OccLE, samples: OccleSamples) -> dict[str, float]:
    """mIoU of the semantic branch (Table 4) over the classes that are there.

    Args:
        network: in evaluation mode.
        samples: frames that are all annotated, with exact labels of their images.

    Returns:
        "image": of the segmentation s over all labelled pixels; "lidar": of S over the scan's voxels that the truth says are
        occupied, by a known class.
    """
    classes = samples.labels.taxonomy
    image, lidar = (CompletionMetrics(classes.num_classes, free=classes.free) for _ in range(2))
    for item, inputs in _inputs(samples, NONE):
        semantics = network.semantics(inputs, network.cells(inputs))
        labels = samples.pixels(item)
        logits = F.interpolate(network.semantic.image_logits(semantics), labels.shape[-2:], mode="bilinear", align_corners=False)
        image.update(logits.argmax(1).numpy(), labels.numpy())
        target = samples.truth(item)[tuple(inputs.scans[0].coords[:, 1:].T)]
        target = torch.where(target == classes.free, IGNORE, target)
        lidar.update(network.semantic.lidar_logits(semantics).features.argmax(1).numpy(), target.numpy())
    return {"image": image.result()["miou_present"], "lidar": lidar.result()["miou_present"]}


@torch.inference_mode()
def geometry(network: OccLE, samples: OccleSamples, augment: OccleAugment = NONE) -> float:
    """IoU of the geometric branch's prediction G (Table 5), its inputs disturbed if wanted (Table D.4)."""
    score, free = CompletionMetrics(2), samples.labels.taxonomy.free
    for item, inputs in _inputs(samples, augment):
        occupied = network.geometric.logits(network.geometry(inputs, network.cells(inputs))).argmax(1)[0]
        truth = samples.truth(item)
        score.update(occupied.numpy(), torch.where(truth == IGNORE, IGNORE, (truth != free).to(torch.uint8)).numpy())
    return float(score.result()["iou"])


@torch.inference_mode()
def completion(network: OccLE, samples: OccleSamples, augment: OccleAugment = NONE) -> dict[str, Any]:
    """IoU, mIoU over the classes that are there, and every class's IoU of the prediction Y (Tables 6 and 7)."""
    classes = samples.labels.taxonomy
    score = CompletionMetrics(classes.num_classes, free=classes.free)
    for item, inputs in _inputs(samples, augment):
        score.update(network(inputs).argmax(1)[0].numpy(), samples.truth(item).numpy())
    found = score.result()
    return {"iou": found["iou"], "miou": found["miou_present"], "per_class": found["per_class"].tolist()}


@torch.inference_mode()
def latencies(
    network: OccLE, samples: OccleSamples, only: Sequence[str] = ("image", "lidar", "geometric", "network")
) -> dict[str, float]:
    """Median milliseconds per frame of the parts in `only`, of eager PyTorch on the CPU.

    Of the 2D and the 3D extractor with their headers (Table 4), the geometric branch with its header (Table 5), and the whole
    network from prepared inputs (Table D.2).
    """

    def image(inputs: OccleInputs) -> Tensor:
        # Not normalised: time does not depend on values.
        pixels = inputs.images[:, 0].flatten(0, 1).movedim(-1, -3).float().contiguous()
        out: Tensor = network.semantic.image_head(network.semantic.image(pixels))
        return out

    def lidar(inputs: OccleInputs) -> Tensor:
        scan, semantic = inputs.scans[0], network.semantic
        voxels = semantic.encoder(scan.points, scan.voxel, scan.table)
        coarse, fine = semantic.lidar(SparseTensor.at(network.cells(inputs)[0], voxels))
        out: Tensor = semantic.lidar_head(semantic.lidar.finest(coarse, fine).features)
        return out

    def geometric(inputs: OccleInputs) -> Tensor:
        return network.geometric.logits(network.geometry(inputs, network.cells(inputs)))

    parts: dict[str, Callable[[OccleInputs], Tensor]] = {
        "image": image,
        "lidar": lidar,
        "geometric": geometric,
        "network": network.__call__,
    }
    times: dict[str, list[float]] = {name: [] for name in only}
    for _, inputs in _inputs(samples, NONE):
        for name in only:
            started = time.perf_counter()
            parts[name](inputs)
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in times.items()}


def _inputs(samples: OccleSamples, augment: OccleAugment) -> Iterator[tuple[int, OccleInputs]]:
    for item in range(len(samples)):
        rng = np.random.default_rng(item)
        most = max_points(samples.network.scan.max_points, augment, rng)
        yield item, disturbed_inputs(samples, item, augment, most, rng)
