# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Convolutions of images on compiled kernels (see images.cpp): stacks of images with margins of zeros, and the layers on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.native.conv import Floats
from occle_core.native.library import Library, address
from occle_core.native.workspace import Workspace

POINTS = (0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)
"""Where Winograd's F(4 x 4, 3 x 3) and F(3 x 3, 4 x 4) evaluate polynomials, beside infinity (Lavin and Gray, Fast Algorithms for
Convolutional Neural Networks, Sec. 4, have 0, 1, -1, 2, -2; these round less)."""
WINDOW = len(POINTS) + 1
"""Pixels of a side of a window, which makes a tile of WINDOW + 1 - size pixels a side."""


class Stack:
    """Images of equal size, the channels of a pixel together, and a margin of zeros around each image.

    Attributes:
        array: (V, H + 2 margin, W + 2 margin, C) float32.
        margin: pixels.
        shape: V, H, W, C without the margin.
        address: where it lies.
    """

    def __init__(self, images: int, height: int, width: int, channels: int, margin: int = 1) -> None:
        self.array: Floats = np.zeros((images, height + 2 * margin, width + 2 * margin, channels), np.float32)
        self.margin = margin
        self.shape = images, height, width, channels
        self.address = address(self.array, np.float32, None, None, None, None)


class Kernel:
    """A convolution's weight (D, C, k, k) and bias (D,) in the layout of the kernels, padding k // 2; behind an even k, one less.

    Args:
        library: the kernels.
        weight, bias: as `nn.Conv2d` keeps them.
        stride: pixels.
        channels: of a pixel of its input, C and zeros behind them.
    """

    def __init__(self, library: Library, weight: ArrayLike, bias: ArrayLike, stride: int, channels: int) -> None:
        source = np.asarray(weight, np.float64)
        width, depth, self.size, _ = source.shape
        self.stride, self.channels = stride, channels
        self.bias: Floats = np.zeros(library.padded(width), np.float32)
        self.bias[:width] = np.asarray(bias)
        padded = np.zeros((self.size, self.size, channels, len(self.bias)))
        padded[:, :, :depth, :width] = source.transpose(2, 3, 1, 0)
        self.direct: Floats = padded.reshape(self.size, self.size * channels, -1).astype(np.float32)
        self.addresses = address(self.direct, np.float32, None, None, None), address(self.bias, np.float32, None)
        self.winograd: Floats | None = None
        if self.size in (3, 4) and stride == 1:
            windows, own = filter_transform(self.size), padded[:, :, :depth]
            transformed = np.einsum("ay,bx,yxcd->abcd", windows, windows, own)
            self.winograd = np.ascontiguousarray(transformed.reshape(WINDOW**2, depth, -1), np.float32)

    def shape_of(self, x: Stack) -> tuple[int, int, int, int]:
        """V, H, W, D of what it makes of x."""
        images, height, width, _ = x.shape
        return images, (height - 1) // self.stride + 1, (width - 1) // self.stride + 1, len(self.bias)


def filter_transform(size: int) -> NDArray[np.float64]:
    """G of Winograd's filtering: what a line of `size` weights becomes, (WINDOW, size)."""
    rows = [[p**power / np.prod([p - q for q in POINTS if q != p]) for power in range(size)] for p in POINTS]
    return np.array([*rows, [0.0] * (size - 1) + [1.0]])


def space_to_depth(weight: Floats) -> Floats:
    """A kernel (D, C, 7, 7) of stride 2 as one of stride 1, (D, 4 C, 4, 4), on images whose 2 x 2 pixels became channels."""
    width, depth, _, _ = weight.shape
    padded = np.pad(weight, ((0, 0), (0, 0), (1, 0), (1, 0))).reshape(width, depth, 4, 2, 4, 2)
    return padded.transpose(0, 3, 5, 1, 2, 4).reshape(width, 4 * depth, 4, 4)


def look_up(space: Workspace, images: NDArray[np.uint8], table: Floats, out: Stack) -> None:
    """Images (V, H, W, 3) through a table (256, 3) of what a byte stands for, 2 x 2 pixels to one of 12 channels (space to depth).

    Raises:
        ValueError: the stack does not fit.
    """
    count, height, width, _ = images.shape
    if out.shape[:3] != (count, (height + 1) // 2, (width + 1) // 2) or out.shape[3] < 12 or out.margin != 2:
        raise ValueError(f"images {out.shape} with margins of {out.margin} do not hold 2 x 2 pixels of {images.shape} each")
    space.library.call(
        "look_up_pixels",
        space.pool.handle,
        address(images, np.uint8, count, height, width, 3),
        count,
        height,
        width,
        address(table, np.float32, 256, 3),
        out.shape[3],
        out.address,
    )


def convolve(space: Workspace, x: Stack, kernel: Kernel, out: Stack, more: Stack | None = None, relu: bool = False) -> None:
    """out = act(kernel(x) + more); where more is smaller, each pixel takes the nearest at its place in it.

    Raises:
        ValueError: the stacks do not fit.
    """
    images, height, width, channels = x.shape
    made = kernel.shape_of(x)
    other = made if more is None else more.shape
    fits = channels == kernel.channels and x.margin >= kernel.size // 2 and out.shape == made
    if not fits or other[::3] != made[::3] or (more is not None and more.margin != 1):
        size = f"{kernel.size} x {kernel.size} x {kernel.channels}"
        raise ValueError(f"a kernel of {size} does not fit images {x.shape}, {other}, {out.shape}")
    begin, end = (space.pool.handle, x.address, images, height, width, channels), (relu, out.address, out.margin)
    (weight, bias), added = kernel.addresses, None if more is None else more.address
    if kernel.winograd is not None and uses_winograd(x, kernel, out, more):
        depth = kernel.winograd.shape[1]
        weight = address(kernel.winograd, np.float32, WINDOW**2, depth, made[3])
        room = space.pool.threads * space.library.constant("winograd_room", channels + made[3])
        with space.frame():
            work = address(space.empty(np.float32, room), np.float32, room)
            space.library.call("convolve_winograd", *begin, weight, kernel.size, depth, made[3], bias, added, *end, work)
    else:
        sizes = (x.margin, weight, kernel.size, kernel.stride, made[3])
        space.library.call("convolve_images", *begin, *sizes, bias, added, *other[1:3], *end)


def uses_winograd(x: Stack, kernel: Kernel, out: Stack, more: Stack | None) -> bool:
    """Whether `convolve` takes Winograd's way, instead of the direct one."""
    return kernel.winograd is not None and x.margin == kernel.size // 2 and (more is None or more.shape == out.shape)


def largest(space: Workspace, x: Stack, out: Stack) -> None:
    """The maximum over 3 x 3 pixels, stride 2, padding 1, of images that are not negative anywhere."""
    images, height, width, channels = x.shape
    if out.shape != (images, (height - 1) // 2 + 1, (width - 1) // 2 + 1, channels) or x.margin != 1 or out.margin != 1:
        raise ValueError(f"images {out.shape} are not half of {x.shape}")
    space.library.call("largest_of_images", space.pool.handle, x.address, images, height, width, channels, out.address)
