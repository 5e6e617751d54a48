# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Normalisation of images: the statistics of ImageNet, which pretrained ResNets expect."""

from __future__ import annotations

IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)
