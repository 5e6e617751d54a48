# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What OccLE's tables compare its extractors and its planes with: other encoders, shallower UNets, deformable attention."""

from math import prod

import numpy as np
import pytest
import torch
from occle_rig import GRID, frame, moved
from pydantic import ValidationError

from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.capacities import Capacities
from occle_core.networks.occle.config import SemanticConfig
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.networks.occle.deformable import DeformableAttention
from occle_core.networks.occle.fusion import DynamicFusion
from occle_core.networks.occle.image_extractors import _EESP, ESPNetEncoder, make_encoder
from occle_core.networks.occle.inputs import prepare
from occle_core.networks.occle.network import OccLE, OccleProgram, label_grid

CLASSES = 6
CENTER = (0.0, 16.0)


def changed(part, **values):
    config = occle_tiny()
    return config.model_copy(update={part: getattr(config, part).model_copy(update=values)})


VARIANTS = {
    "mobilenet": changed("semantic", image_extractor="mobilenet", image_channels=(8, 16, 32)),
    "espnetv2": changed("semantic", image_extractor="espnetv2", image_channels=(16, 32, 64)),
    "one layer": changed("semantic", lidar_channels=(8, 8)),
    "two layers": changed("semantic", lidar_channels=(8, 8, 8)),
    "deformable": changed("geometric", synergy="deformable"),
    "occfusion": changed("fusion", instead="occfusion"),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_learns_and_its_static_form_says_the_same(config):
    torch.manual_seed(0)
    net = OccLE(config, CLASSES, GRID)
    batch = prepare([frame(0), frame(1)], [moved(0), moved(-1)], GRID, config)
    cells = net.cells(batch)
    semantics, geometric = net.semantics(batch, cells), net.geometry(batch, cells)
    outputs = [net.fusion.logits(net.fusion(semantics.grid, geometric)), net.geometric.logits(geometric)]
    outputs += [net.semantic.image_logits(semantics), net.semantic.lidar_logits(semantics).features]
    assert [tuple(value.shape) for value in outputs[:3]] == [(1, CLASSES, 32, 32, 16), (1, 2, 32, 32, 16), (1, CLASSES, 16, 32)]
    assert outputs[3].shape == (len(batch.scans[0].coords), CLASSES)
    sum(value.square().mean() for value in outputs).backward()
    parts = (net.semantic, net.geometric.synergy, *([net.fusion.dynamic] if net.fusion.dynamic else []))
    dead = [name for part in parts for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    net.eval()
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
    counts = {name: int(1.3 * count) for name, count in net.set_counts(batch).items()}
    form = OccleProgram(net, Capacities(points=int(1.3 * batch.sizes["points"]), sets=counts), 0, CENTER).eval()
    arrays = net.pad(batch, form.capacities, CENTER).values()
    with torch.inference_mode():
        labels, _, found = form(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        expected, _ = label_grid(net(batch), 0)
    assert (labels == expected).float().mean() > 0.999 and found.numel() == len(net.set_names)


def test_mobilenet_has_the_published_layers():
    """Howard et al., Table 1: a full convolution, then depthwise and pointwise ones, down to stride 8."""
    encoder = make_encoder("mobilenet", (64, 128, 256))
    kernels = [tuple(module.weight.shape) for module in encoder.modules() if isinstance(module, torch.nn.Conv2d)]
    expected = [(32, 3, 3, 3)]
    for a, b in ((32, 64), (64, 128), (128, 128), (128, 256), (256, 256)):
        expected += [(a, 1, 3, 3), (b, a, 1, 1)]
    assert kernels == expected and sum(map(prod, kernels)) == 131_264
    assert [tuple(m.shape[1:]) for m in encoder(torch.zeros(1, 3, 32, 64))] == [(64, 16, 32), (128, 8, 16), (256, 4, 8)]


@pytest.mark.parametrize(("reach", "span"), [(5, 5), (9, 9), (13, 9)])
def test_an_eesp_unit_looks_as_far_as_its_widest_convolution(reach, span):
    """Mehta et al.: four dilated 3x3 convolutions of 3, 5, 7 and 9 pixels, those beyond the limit of 3."""
    torch.manual_seed(0)
    unit = _EESP(16, 16, 1, reach).eval()
    image = torch.randn(1, 16, 31, 31, requires_grad=True)
    unit(image)[0, :, 15, 15].sum().backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [span, span]


def test_espnetv2_looks_at_the_image_at_every_scale():
    encoder = ESPNetEncoder((16, 32, 64)).eval()
    maps = encoder(torch.randn(1, 3, 32, 64))
    assert [tuple(one.shape[1:]) for one in maps] == [(16, 16, 32), (32, 8, 16), (64, 4, 8)]
    with torch.no_grad():
        encoder[0][0].weight.zero_()  # the first map says nothing of the image any more
        one, other = (encoder(torch.randn(1, 3, 32, 64)) for _ in range(2))
    assert torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    for channels in ((16, 32, 32), (12, 24, 48)):
        with pytest.raises(ValueError, match="multiples of 16"):
            ESPNetEncoder(channels)


def test_norms_that_follow_no_convolution_become_one():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(4)).eval()
    torch.nn.init.uniform_(net[1].running_mean)
    torch.nn.init.uniform_(net[1].weight)
    image = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(fold_batch_norms(net)(image), net(image))


def test_deformable_attention_against_shifted_grids():
    """With whole-cell offsets and the weights of a softmax it is a weighted sum of shifted grids, zeros beyond the border."""
    torch.manual_seed(0)
    attention = DeformableAttention(4, heads=2, points=2)
    query, grid = torch.randn(2, 4, 5, 4, 6), torch.randn(2, 4, 5, 4, 6)
    offsets = torch.tensor([[[0, 0, 0], [1, 0, 0]], [[0, -2, 0], [-1, 1, 3]]])
    shares = torch.tensor([[0.25, 0.75], [0.9, 0.1]])
    with torch.no_grad():
        attention.offset.bias.copy_(offsets.flatten())
        attention.weight.bias.copy_(shares.log().flatten())
        found, value = attention(query, grid), attention.value(grid)
        padded, shape, mixed = torch.nn.functional.pad(value, (3,) * 6), grid.shape[2:], torch.zeros_like(value)
        for head in range(2):
            own = slice(2 * head, 2 * head + 2)
            for point in range(2):
                x, y, z = (3 + int(step) for step in offsets[head, point])
                seen = padded[:, own, x : x + shape[0], y : y + shape[1], z : z + shape[2]]
                mixed[:, own] += shares[head, point] * seen
        torch.testing.assert_close(found, attention.out(mixed), atol=1e-5, rtol=1e-5)


def test_a_unet_has_one_to_three_layers():
    for channels in ((8,), (8, 8, 8, 8, 8)):
        with pytest.raises(ValidationError):
            SemanticConfig(lidar_channels=channels)


def test_occfusions_fusion_is_a_convolution_of_both_grids_weighted_by_channel():
    """Against loops: a 3 x 3 x 3 convolution over the concatenated channels, and weights from the means of what it gives."""
    torch.manual_seed(0)
    fuse = DynamicFusion(4).eval()
    one, other = torch.randn(2, 4, 3, 4, 5), torch.randn(2, 4, 3, 4, 5)
    both = np.pad(np.concatenate([one, other], 1).astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1), (1, 1)))
    kernel = fuse.merge[0].weight.detach().double().numpy()
    expected = np.zeros((2, 4, 3, 4, 5))
    for x, y, z in np.ndindex(3, 4, 5):
        window = both[:, None, :, x : x + 3, y : y + 3, z : z + 3]
        expected[:, :, x, y, z] = (window * kernel).sum((2, 3, 4, 5))
    expected = np.maximum(expected / np.sqrt(1 + fuse.merge[1].eps), 0)  # fresh statistics
    squeeze, _, spread, _ = fuse.gate
    hidden = np.maximum(expected.mean((2, 3, 4)) @ squeeze.weight.detach().numpy().T + squeeze.bias.detach().numpy(), 0)
    gates = 1 / (1 + np.exp(-(hidden @ spread.weight.detach().numpy().T + spread.bias.detach().numpy())))
    with torch.no_grad():
        np.testing.assert_allclose(fuse(one, other), expected * gates[:, :, None, None, None], rtol=1e-4, atol=1e-5)
