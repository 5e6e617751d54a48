# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Parts of MinkOcc against independent computations, and the promise that inference needs no ground truth."""

import inspect

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from occle_core.bundle import rig_spec
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.networks.blocks.bilinear import sample_bilinear
from occle_core.networks.blocks.fpn import FeaturePyramid
from occle_core.networks.blocks.resnet import ResNet
from occle_core.networks.blocks.voxel_features import VoxelFeatureEncoder
from occle_core.networks.minkocc import config
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import label_grid
from occle_core.networks.minkocc.point_fusion import PointFusion
from occle_core.networks.minkocc.unet import GenerativeUNet
from occle_core.sparse import SparseTensor

TORCHVISION = {
    # parameter counts without the classifier (fc), from torchvision's published totals: 11689512, 21797672, 25557032
    "resnet18": (11689512 - 513000, [64, 128, 256, 512]),
    "resnet34": (21797672 - 513000, [64, 128, 256, 512]),
    "resnet50": (25557032 - 2049000, [256, 512, 1024, 2048]),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_resnets_have_torchvisions_parameters(name):
    network = ResNet(name)
    count, channels = TORCHVISION[name]
    assert sum(p.numel() for p in network.parameters()) == count
    assert network.channels == channels
    names = network.state_dict().keys()
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer4.1.bn2.bias",
    } <= names
    assert ("layer1.0.downsample.1.weight" in names) == (name == "resnet50")
    maps = network.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32))]


def test_pyramid_passes_coarse_context_to_fine_levels():
    pyramid = FeaturePyramid([4, 8], 6)
    fine, coarse = torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)
    out = pyramid([fine, coarse])
    inner = F.conv2d(coarse, pyramid.inner_blocks[1][0].weight, pyramid.inner_blocks[1][0].bias)
    merged = F.conv2d(fine, pyramid.inner_blocks[0][0].weight, pyramid.inner_blocks[0][0].bias) + inner.repeat_interleave(
        2, 2
    ).repeat_interleave(2, 3)
    expected = F.conv2d(merged, pyramid.layer_blocks[0][0].weight, pyramid.layer_blocks[0][0].bias, padding=1)
    torch.testing.assert_close(out[0], expected)


def test_bilinear_samples_equal_grid_sample():
    image = torch.randn(3, 5, 7, 9)
    view, uv = torch.randint(0, 4, (50, 2)), torch.rand(50, 2, 2)
    out = sample_bilinear(image, view, uv)
    for p in range(50):
        for m in range(2):
            if view[p, m] == 3:
                assert (out[p, m] == 0).all()
                continue
            grid = (uv[p, m] * 2 - 1).view(1, 1, 1, 2)
            expected = F.grid_sample(image[view[p, m]][None], grid, padding_mode="border", align_corners=False)
            torch.testing.assert_close(out[p, m], expected[0, :, 0, 0], atol=1e-5, rtol=1e-4)


def test_fusion_is_a_softmax_over_visible_views_and_scales_only():
    fusion = PointFusion(5)
    pyramid = [torch.randn(2, 5, 8, 8), torch.randn(2, 5, 4, 4)]
    view = torch.tensor([[0, 1], [1, 2], [2, 2]])
    uv = torch.rand(3, 2, 2)
    out = fusion(pyramid, view, uv)
    for p in range(3):
        samples = [
            sample_bilinear(level, view[p : p + 1, m : m + 1], uv[p : p + 1, m : m + 1])[0, 0]
            for m in range(2)
            if view[p, m] < 2
            for level in pyramid
        ]
        if not samples:
            assert (out[p] == 0).all()
            continue
        weight = torch.softmax(torch.stack([fusion.score(s) for s in samples]), 0)
        torch.testing.assert_close(out[p], (torch.stack(samples) * weight).sum(0))


def test_voxel_features_are_the_maximum_of_two_vfe_layers():
    vfe = VoxelFeatureEncoder(6, 4).eval()
    points = torch.randn(5, 6)
    table, owner = torch.tensor([[0, 2, 5], [1, 3, 4]]), torch.tensor([0, 1, 0, 1, 1])
    first = vfe.first(points)
    for voxel, rows in enumerate(([0, 2], [1, 3, 4])):
        best = first[rows].amax(0)
        second = vfe.second(torch.cat([first[rows], best.expand(len(rows), -1)], 1))
        torch.testing.assert_close(vfe(points, owner, table)[voxel], second.amax(0))


def test_decoder_grows_support_and_prunes_by_its_own_heads():
    torch.manual_seed(0)
    unet = GenerativeUNet((8, 8, 8), (8, 8), (1, 1, 1), (0.5, 0.5)).eval()
    x = SparseTensor(torch.randn(3, 8), torch.tensor([[0, 8, 8, 8], [0, 1, 1, 1], [0, 15, 15, 15]]), (16, 16, 16), 1)
    out, levels = unet(x)
    assert levels[0].proposed.shape == (16, 16, 16) and levels[1].proposed.shape == (8, 8, 8)
    assert len(levels[1].proposed) > 3 * 8
    assert len(out) == int((levels[0].occupancy > 0).sum())
    kept = {tuple(c) for c in levels[0].proposed.coords[levels[0].occupancy > 0].tolist()}
    assert {tuple(c) for c in out.coords.tolist()} == kept


def test_cells_that_training_forces_survive_pruning():
    torch.manual_seed(0)
    unet = GenerativeUNet((8, 8), (8,), (1, 1), (0.5,)).eval()
    torch.nn.init.constant_(unet.occupancy[0].bias, -100.0)
    x = SparseTensor(torch.randn(1, 8), torch.tensor([[0, 4, 4, 4]]), (8, 8, 8), 1)
    assert len(unet(x)[0]) == 0
    forced = torch.zeros(1, 8, 8, 8, dtype=torch.bool)
    forced[0, 4, 4, 5] = True
    assert unet(x, [forced])[0].coords.tolist() == [[0, 4, 4, 5]]


def test_label_grid_by_hand():
    logits = torch.tensor([[0.0, 5.0, 0.0], [9.0, 0.0, 0.0]])
    labels, confidence = label_grid(SparseTensor(logits, torch.tensor([[0, 0, 1, 2], [0, 1, 1, 1]]), (2, 3, 4), 1), 0)
    assert labels.sum() == 1 and labels[0, 0, 1, 2] == 1
    assert confidence[0, 0, 1, 2] == pytest.approx(float(torch.softmax(logits[0], 0)[1]), abs=1e-3)
    assert (confidence > 0).sum() == 1


def test_batched_frames_are_predicted_as_single_ones():
    from occle_core.networks.minkocc.inputs import collate

    spec = rig_spec("tiny", "kitti")
    torch.manual_seed(1)
    network = spec.build().eval()
    parts = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        points = np.concatenate([rng.uniform((0, -20, -2), (40, 20, 3), (800, 3)), rng.random((800, 1))], 1).astype(np.float32)
        camera = Camera(
            np.array([[60.0, 0, 64], [0, 60, 32], [0, 0, 1]]),
            np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]),
            128,
            64,
        )
        image = rng.integers(0, 255, (64, 128, 3), dtype=np.uint8)
        parts.append(prepare(Frame(0, points, [image], [camera]), spec.voxel_grid, spec.network))
    with torch.inference_mode():
        both = network(collate(parts)).classes
        for number, part in enumerate(parts):
            alone = network(part).classes.dense()
            torch.testing.assert_close(both.dense()[number : number + 1], alone, atol=1e-4, rtol=1e-4)


def test_a_prediction_needs_sensors_only():
    """The predictor has no argument through which a label could enter."""
    from occle_core.predictor import Predictor

    assert list(inspect.signature(Predictor.predict).parameters) == ["self", "frame", "frame_id"]
    assert set(Frame.__dataclass_fields__) == {
        "stamp",
        "points",
        "images",
        "cameras",
        "T_grid_lidar",
        "T_world_lidar",
        "ages",
        "origins",
    }


def test_base_has_the_papers_size():
    network = config.base()
    assert (
        network.image.backbone == "resnet50"
        and (network.image.width, network.image.height) == (704, 256)
        and network.image.num_cameras == 6
    )
    spec = rig_spec("base", "nuscenes")
    assert spec.grid.shape == (200, 200, 16)
    assert spec.build().trunk.channels == [256, 512, 1024, 2048]
