# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Convolutions of images on compiled kernels: PyTorch's results, for every size, stride and border, and the whole image branch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import seeds
from torch import nn
from torch.nn import functional as F

from occle_core.native.images import Kernel, Stack, convolve, largest, look_up, space_to_depth
from occle_core.native.workspace import Workspace
from occle_core.networks.minkocc.config import ImageConfig, MinkOccConfig
from occle_core.networks.minkocc.native_images import NativeImages, Stacks
from occle_core.networks.minkocc.network import MinkOcc

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def stack_of(images, channels, margin=1):
    """(V, C, H, W) -> a stack with this many channels a pixel."""
    count, depth, height, width = images.shape
    stack = Stack(count, height, width, channels, margin)
    inner = stack.array[:, margin : margin + height, margin : margin + width]
    inner[..., :depth] = images.permute(0, 2, 3, 1)
    return stack


def images_of(stack, channels):
    """Back again."""
    inner = stack.array[:, stack.margin : stack.array.shape[1] - stack.margin, stack.margin : stack.array.shape[2] - stack.margin]
    return torch.from_numpy(inner[..., :channels].copy()).permute(0, 3, 1, 2)


def margin_of(stack):
    """Sum of what should be zeros."""
    return np.abs(stack.array).sum() - np.abs(images_of(stack, stack.array.shape[3]).numpy()).sum()


@settings(max_examples=20, deadline=None)
@given(
    size=st.sampled_from([1, 3, 3, 4, 7]),
    stride=st.integers(1, 2),
    counts=st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 14)),
    depth=st.sampled_from([3, 16, 40]),
    width=st.sampled_from([5, 32, 48]),
    shrunk=st.sampled_from([0, 1, 2]),
    relu=st.booleans(),
    out_margin=st.integers(0, 1),
    seed=seeds,
)
@example(size=3, stride=1, counts=(1, 2, 2), depth=3, width=5, shrunk=0, relu=False, out_margin=0, seed=0)
@example(size=4, stride=1, counts=(2, 7, 9), depth=12, width=32, shrunk=1, relu=True, out_margin=1, seed=1)
def test_convolutions(space, size, stride, counts, depth, width, shrunk, relu, out_margin, seed):
    torch.manual_seed(seed % 2**31)
    count, height, wide = counts
    x, weight, bias = torch.randn(count, depth, height, wide), torch.randn(width, depth, size, size) / depth, torch.randn(width)
    channels = space.library.padded(depth)
    kernel = Kernel(space.library, weight.numpy(), bias.numpy(), stride, channels)
    before, behind = size // 2, (size - 1) // 2
    expected = F.conv2d(F.pad(x, (before, behind, before, behind)), weight, bias, stride)
    more = None
    if shrunk:
        high, across = (-(-side // shrunk) for side in expected.shape[2:])
        added = torch.randn(count, width, high, across)
        expected = expected + F.interpolate(added, expected.shape[2:], mode="nearest")
        more = stack_of(added, space.library.padded(width))
    out = Stack(*kernel.shape_of(stack_of(x, channels)), out_margin)
    convolve(space, stack_of(x, channels, max(1, size // 2)), kernel, out, more, relu)
    torch.testing.assert_close(images_of(out, width), expected.relu() if relu else expected, **TOLERANCE)
    assert margin_of(out) == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 5, 7), (1, 1, 1)])
def test_bytes_through_a_table_and_the_first_kernel(space, shape):
    """A 7 x 7 kernel of stride 2, on pixels that hold 2 x 2 of the image's."""
    torch.manual_seed(1)
    images, table = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8), torch.randn(256, 3)
    weight, bias = torch.randn(32, 3, 7, 7) / 7, torch.randn(32)
    x = torch.stack([table[images[..., c].long(), c] for c in range(3)], 1)
    expected = F.conv2d(x, weight, bias, 2, 3)
    pixels = Stack(shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2, space.library.padded(12), 2)
    look_up(space, images.numpy(), table.numpy(), pixels)
    kernel = Kernel(space.library, space_to_depth(weight.numpy()), bias.numpy(), 1, pixels.shape[3])
    out = Stack(*kernel.shape_of(pixels))
    convolve(space, pixels, kernel, out)
    torch.testing.assert_close(images_of(out, 32), expected, **TOLERANCE)
    with pytest.raises(ValueError, match="do not hold 2 x 2 pixels"):
        look_up(space, images.numpy(), table.numpy(), Stack(*pixels.shape, 1))


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 5, 7), (1, 1, 1)])
def test_the_maximum_of_neighbours(space, shape):
    x = torch.rand(shape[0], 16, *shape[1:])
    expected = F.max_pool2d(x, 3, 2, 1)
    out = Stack(shape[0], *expected.shape[2:], 16)
    largest(space, stack_of(x, 16), out)
    assert torch.equal(images_of(out, 16), expected)


def test_stacks_that_do_not_fit_are_refused(space):
    kernel = Kernel(space.library, np.zeros((16, 16, 3, 3)), np.zeros(16), 1, 16)
    x, out = Stack(1, 4, 4, 16), Stack(1, 4, 4, 16)
    for wrong in (Stack(1, 4, 4, 32), Stack(1, 4, 4, 16, 0)):
        with pytest.raises(ValueError, match="does not fit"):
            convolve(space, wrong, kernel, out)
    with pytest.raises(ValueError, match="does not fit"):
        convolve(space, x, kernel, Stack(1, 4, 6, 16))
    with pytest.raises(ValueError, match="does not fit"):
        convolve(space, x, kernel, out, Stack(2, 4, 4, 16))
    with pytest.raises(ValueError, match="are not half"):
        largest(space, x, Stack(1, 4, 4, 16))


@pytest.mark.parametrize(("backbone", "width", "height"), [("resnet18", 96, 64), ("resnet50", 72, 40)])
def test_the_image_branch(kernels, backbone, width, height):
    """Widths that no stride divides too; norms that are not the identity."""
    torch.manual_seed(5)
    image = ImageConfig(num_cameras=2, width=width, height=height, backbone=backbone, base_width=8, num_stages=3, channels=20)
    network = MinkOcc(MinkOccConfig(image=image), 5, (8, 8, 8)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3), module.running_var.uniform_(0.5, 2), module.weight.data.uniform_(0.5, 1)
    native, own = NativeImages(kernels, network), threading.local()
    frames = [torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8) for _ in range(3)]
    with torch.inference_mode():
        expected = []
        for frame in frames:
            x = ((frame.float() - network.image_mean) / network.image_std).permute(0, 3, 1, 2)
            expected.append(network.pyramid(network.trunk(x)))

    def check(number):
        if not hasattr(own, "stacks"):
            own.stacks = Stacks(Workspace(kernels, 2))
        for level, right in zip(native(own.stacks, frames[number].numpy()), expected[number], strict=True):
            torch.testing.assert_close(torch.from_numpy(level[..., :20]), right.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
            assert not level[..., 20:].any()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(check, [0, 1, 2] * 3))
